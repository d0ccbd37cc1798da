"""Fractions of the training voxels that lie in labels, and in particles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tomostream.config.configuration import LearningSettings
from tomostream.config.sections import Species
from tomostream.geometry import Box, Triple, triple
from tomostream.masks import mask_of_box
from tomostream.strategies.training_set import Labelled


def measure_priors(
    settings: LearningSettings, species: Sequence[Species], labelled: Labelled, radii: list[float]
) -> tuple[list[float], list[float] | None]:
    """Fractions of the training voxels in labels (observed) and in particles (expected; None if unknown), one per species.

    The expected fraction is number times volume of a ball (the paper's pi'; where balls overlap it counts voxels twice).

    Parameters
    ----------
    species
        With their expected numbers, given or estimated.
    radii
        Of the labels, voxels of the level.
    """
    voxels = sum(math.prod(t.shape) for t in labelled.tomograms)
    shape = settings.train.label_shape
    observed = [
        sum(_labelled_voxels(t.shape, points[i], radius, shape) for t, points in zip(labelled.tomograms, labelled.points, strict=True))
        / voxels
        for i, radius in enumerate(radii)
    ]
    if settings.objective.prior is not None:
        return observed, [settings.objective.prior] * len(radii)
    expected: list[float] = []
    for one, radius in zip(species, radii, strict=True):
        # without clicks and without an expected number, a tomogram is taken to be as crowded as the others
        known = [(number, math.prod(t.shape)) for t in labelled.tomograms if (number := one.expected_in(t.name)) is not None]
        if any(one.expected_in(t.name) is None for t, own in zip(labelled.tomograms, labelled.points, strict=True) if any(map(len, own))):
            return observed, None
        expected.append(sum(number for number, _ in known) * 4 / 3 * math.pi * radius**3 / sum(size for _, size in known))
    return observed, expected


def _labelled_voxels(shape: Triple, points: np.ndarray, radius: float, kind: str) -> int:
    """Count the voxels of the union of the labels, ball by ball: each counts those that no earlier point's ball holds."""
    total = 0
    for i, point in enumerate(points):
        reach = int(np.ceil(radius)) + 1
        centre = triple([round(float(c)) for c in point])
        box = Box(centre, triple([c + 1 for c in centre])).expanded(reach).clipped(Box.whole(shape))
        own = mask_of_box(box, points[i : i + 1], radius=radius, shape=kind, volume=shape).astype(bool)
        earlier = mask_of_box(box, points[:i], radius=radius, shape=kind, volume=shape).astype(bool)
        total += int(np.count_nonzero(own & ~earlier))
    return total
