"""The backbone's features of boxes of the training tomograms, each with batch-norm statistics of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch

from tomostream import defaults
from tomostream.geometry import Box
from tomostream.inference.batch_statistics import adapted
from tomostream.inference.region_scoring import read_extended
from tomostream.learn.precision import resolve_device
from tomostream.strategies.few_shot.backbone import Backbone
from tomostream.strategies.few_shot.parts import Part
from tomostream.strategies.sample_boxes import box_within
from tomostream.strategies.training_set import Training
from tomostream.strategies.unet.model import unet_sampling
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.scorer import StreamedNetwork, UNetScorer
from tomostream.tomogram import Tomogram

BACKGROUND_VOX = 1_000_000  # of all background boxes


def smoothing_vox(training: Training) -> float:
    """Radius of the ball over which logits are averaged, voxels of the level."""
    return defaults.MATCHED_SMOOTH * min(training.radii_vox)


class Eyes:
    """The backbone in each clicked tomogram."""

    def __init__(self, training: Training, backbone: Backbone) -> None:
        self.training, self.backbone = training, backbone
        self.tomograms: list[Tomogram] = training.labelled.clicked.tomograms
        settings = training.settings
        self._device = resolve_device(settings.device)
        features = backbone.features()
        self._sampling = unet_sampling(features.stride)
        is_own = settings.network.batch_statistics == "tomogram"
        networks = [adapted(features, self._images(t), device=self._device) for t in self.tomograms] if is_own else []
        common = None if is_own else self.with_training_statistics(features)
        self._scorers = [
            UNetScorer(
                StreamedNetwork(common if common is not None else networks[i], device=self._device.type, precision="float32", threads=None)
            )
            for i in range(len(self.tomograms))
        ]

    def _images(self, tomogram: Tomogram) -> Iterator[torch.Tensor]:
        return self._sampling.images(tomogram.read_standardised, tomogram.shape)

    def with_training_statistics(self, network: ResidualUNet) -> ResidualUNet:
        """A copy with the batch-norm statistics of all clicked tomograms together, on the processor."""
        images = itertools.chain.from_iterable(self._images(tomogram) for tomogram in self.tomograms)
        return adapted(network, images, device=self._device).cpu()

    def see(self, number: int, box: Box) -> Part:
        """Features of a box."""
        tomogram, scorer = self.tomograms[number], self._scorers[number]
        read = scorer.read_box(box, tomogram.shape)
        image = read_extended(tomogram.read_standardised, read, tomogram.shape)
        return Part(number, box, scorer.logits(image, read, box, tomogram.shape).astype(np.float16))

    def backgrounds(self) -> list[Part]:
        """A box of each tomogram."""
        rng = np.random.default_rng([self.training.settings.train.seed, 3])
        each = BACKGROUND_VOX // len(self.tomograms)
        return [self.see(number, box_within(tomogram, each, rng)) for number, tomogram in enumerate(self.tomograms)]
