"""Score boxes of the training tomograms with a network, as prediction will: with each tomogram's own batch-norm statistics, averaged over a ball."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tomostream.geometry import Box
from tomostream.strategies.sample_boxes import MEASURED_VOX, MOST_MEASURED_VOX, box_within

if TYPE_CHECKING:
    from tomostream.strategies.training_set import Training
    from tomostream.strategies.unet.fusion import AveragedScorer
    from tomostream.strategies.unet.network import ResidualUNet

_VOXEL_BYTES = 100  # of memory a voxel of the boxes may take, logits, transforms and sums together; generous
MEASURED_PARTICLES = 100  # expected in the boxes of the clicked tomograms together; fewer can't be split into kinds (`populations`)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A scored box of a training tomogram."""

    tomogram: int  # index of the tomogram
    box: Box
    share: float  # voxels of the box over those of the tomogram
    logits: np.ndarray  # averaged logits of the network, (s, z, y, x)

    def times(self, factors: Sequence[float]) -> Scored:
        """Return the box with the logits of each species multiplied by a factor."""
        if all(factor == 1 for factor in factors):
            return self
        return replace(self, logits=self.logits * np.asarray(factors, dtype=np.float32).reshape(-1, 1, 1, 1))


def random_boxes(training: Training, expected: Sequence[float]) -> list[tuple[int, Box]]:
    """Return a box of each training tomogram, with the tomogram's index, at a place drawn from the seed; `MEASURED_VOX` voxels in total.

    The clicked tomograms, whose number of particles is known best, get at least half of the voxels.  They get `MOST_MEASURED_VOX`, where fewer than
    `MEASURED_PARTICLES` of a species could be in them otherwise: often the whole tomograms then, with all of their clicks.  A memory
    budget under 2 GB allows fewer.

    Parameters
    ----------
    expected
        Per species, the number of particles in all clicked tomograms together.
    """
    tomograms, clicked = training.labelled.tomograms, set(training.labelled.clicked.names)
    count, known = len(tomograms), sum(one.name in clicked for one in tomograms)
    most = max(MEASURED_VOX // count, MEASURED_VOX // (2 * known)) if known else MEASURED_VOX // count
    rest = max(0, MEASURED_VOX - known * most) // max(1, count - known)
    if known:
        voxels = sum(math.prod(one.shape) for one in tomograms if one.name in clicked)
        # a box may have half of the voxels that it is allowed
        if min(expected) * known * most / 2 < MEASURED_PARTICLES * voxels:
            most = max(most, min(MOST_MEASURED_VOX, training.settings.memory // _VOXEL_BYTES) // known)
    rng = np.random.default_rng([training.settings.train.seed, 1])
    return [(number, box_within(one, most if one.name in clicked else rest, rng)) for number, one in enumerate(tomograms)]


def score_boxes(
    training: Training, network: ResidualUNet, boxes: Sequence[tuple[int, Box]], *, smooth: float, precision: str
) -> list[Scored]:
    """Score boxes of training tomograms, given with the tomogram's index.

    Parameters
    ----------
    smooth
        Radius of the ball over which logits are averaged, in voxels of the level.
    precision
        Precision of the network: float32 or bf16.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    from tomostream.inference.region_scoring import read_extended

    found: dict[int, Scored] = {}
    for number, tomogram in enumerate(training.labelled.tomograms):
        wanted = [(place, box) for place, (index, box) in enumerate(boxes) if index == number]
        if not wanted:
            continue
        averaged = _scorer(training, network, number, smooth, precision)
        for place, box in wanted:
            read = averaged.read_box(box, tomogram.shape)
            image = read_extended(tomogram.read_standardised, read, tomogram.shape)
            logits = averaged.logits(image, read, box, tomogram.shape)
            found[place] = Scored(number, box, box.size / math.prod(tomogram.shape), logits)
    return [found[place] for place in range(len(boxes))]


def _scorer(training: Training, network: ResidualUNet, number: int, smooth: float, precision: str) -> AveragedScorer:
    """Return the network, ready to score a training tomogram."""
    from tomostream.inference.batch_statistics import adapted
    from tomostream.learn.precision import resolve_device
    from tomostream.strategies.unet.fusion import AveragedScorer
    from tomostream.strategies.unet.model import unet_sampling
    from tomostream.strategies.unet.scorer import StreamedNetwork

    device = resolve_device(training.settings.device)
    if training.settings.network.batch_statistics == "tomogram":
        tomogram = training.labelled.tomograms[number]
        network = adapted(network, unet_sampling(network.stride).images(tomogram.read_standardised, tomogram.shape), device=device)
    return AveragedScorer(StreamedNetwork(network, device=device.type, precision=precision, threads=None), smooth_vox=smooth)
