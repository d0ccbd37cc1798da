"""Compute the backbone's features of boxes of the training tomograms, with each tomogram's own batch-norm statistics."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch

from tomostream import defaults
from tomostream.geometry import Box
from tomostream.inference.batch_statistics import Sampling, adapted
from tomostream.inference.region_scoring import read_extended
from tomostream.learn.precision import resolve_device
from tomostream.strategies.sample_boxes import box_within
from tomostream.strategies.training_set import Training
from tomostream.strategies.unet.model import unet_sampling
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.pretrained.backbone import Backbone
from tomostream.strategies.unet.pretrained.parts import Part
from tomostream.strategies.unet.pretrained.settings import CHANNELS
from tomostream.strategies.unet.scorer import StreamedNetwork, UNetScorer
from tomostream.tomogram import Tomogram

BACKGROUND_VOX = 1_000_000  # voxels of all background boxes together


def smoothing_vox(training: Training) -> float:
    """Return the radius of the ball over which logits are averaged, in voxels of the level."""
    return defaults.MATCHED_SMOOTH * min(training.radii_vox)


def seeing_bytes() -> int:
    """Return the projected peak in bytes, without libraries: features of the background, and the crops for a tomogram's batch-norm statistics."""
    return 2 * CHANNELS[0] * BACKGROUND_VOX + unet_sampling(2 ** (len(CHANNELS) - 1)).projected_bytes(CHANNELS)


class Eyes:
    """Computes features of boxes of the clicked tomograms; without a backbone, features have no channels.

    Parameters
    ----------
    training
        Settings and clicked tomograms.
    backbone
        The pretrained backbone, or None.
    """

    def __init__(self, training: Training, backbone: Backbone | None) -> None:
        self.training, self.backbone = training, backbone
        self.tomograms: list[Tomogram] = training.labelled.clicked.tomograms
        self._device = resolve_device(training.settings.device)
        self._scorers = [] if backbone is None else self._scorers_of(backbone.features())

    def _scorers_of(self, features: ResidualUNet) -> list[UNetScorer]:
        if self.training.settings.network.batch_statistics == "tomogram":
            sampling = unet_sampling(features.stride)
            networks = [adapted(features, _images(sampling, t), device=self._device) for t in self.tomograms]
        else:
            networks = [with_training_statistics(self.training, features)] * len(self.tomograms)
        return [UNetScorer(StreamedNetwork(one, device=self._device.type, precision="float32", threads=None)) for one in networks]

    def see(self, number: int, box: Box) -> Part:
        """Return a box of clicked tomogram `number` with its features."""
        if not self._scorers:
            return Part(number, box, np.empty((0, *box.shape), dtype=np.float16))
        tomogram, scorer = self.tomograms[number], self._scorers[number]
        read = scorer.read_box(box, tomogram.shape)
        image = read_extended(tomogram.read_standardised, read, tomogram.shape)
        features = np.empty((scorer.species, *box.shape), dtype=np.float16)
        for first, planes in scorer.planes(image, read, box, tomogram.shape):
            features[:, first : first + planes.shape[1]] = planes
        return Part(number, box, features)

    def backgrounds(self) -> list[Part]:
        """Return a background box of each clicked tomogram, at a place drawn from the seed, with its features."""
        rng = np.random.default_rng([self.training.settings.train.seed, 3])
        each = BACKGROUND_VOX // len(self.tomograms)
        return [self.see(number, box_within(tomogram, each, rng)) for number, tomogram in enumerate(self.tomograms)]


def with_training_statistics(training: Training, network: ResidualUNet) -> ResidualUNet:
    """Return a copy of the network, on the CPU, with batch-norm statistics measured on all clicked tomograms together."""
    sampling = unet_sampling(network.stride)
    images = itertools.chain.from_iterable(_images(sampling, tomogram) for tomogram in training.labelled.clicked.tomograms)
    return adapted(network, images, device=resolve_device(training.settings.device)).cpu()


def _images(sampling: Sampling, tomogram: Tomogram) -> Iterator[torch.Tensor]:
    return sampling.images(tomogram.read_standardised, tomogram.shape)
