"""Measure the fraction of training voxels in labels, and compute the expected fraction in particles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tomostream.config.configuration import LearningSettings
from tomostream.config.sections import Species
from tomostream.geometry import Box, Triple, triple
from tomostream.learn.objectives import KnownNegatives
from tomostream.masks import mask_of_box
from tomostream.strategies.training_set import Labelled


def measure_priors(
    settings: LearningSettings, species: Sequence[Species], labelled: Labelled, radii: list[float]
) -> tuple[list[float], list[float] | None]:
    """Return the fractions of training voxels in labels and in particles.

    The expected fraction is the expected number times the volume of a ball.  Where balls overlap, voxels count twice.

    Parameters
    ----------
    settings
        Gives the shape of labels, and the prior if the user set it.
    species
        Species with their expected numbers, given or estimated.
    labelled
        The training tomograms.
    radii
        Radius of the labels per species, in voxels of the level.

    Returns
    -------
    observed : list of float
        Fraction of voxels in labels, per species.
    expected : list of float or None
        Expected fraction of voxels in particles, per species; None if a clicked tomogram has no expected number.
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
        # a tomogram without clicks and without an expected number is assumed to have the density of the others
        known = [(number, math.prod(t.shape)) for t in labelled.tomograms if (number := one.expected_in(t.name)) is not None]
        if any(one.expected_in(t.name) is None for t, own in zip(labelled.tomograms, labelled.points, strict=True) if any(map(len, own))):
            return observed, None
        expected.append(sum(number for number, _ in known) * 4 / 3 * math.pi * radius**3 / sum(size for _, size in known))
    return observed, expected


def measure_negatives(settings: LearningSettings, labelled: Labelled, radii: list[float]) -> list[KnownNegatives] | None:
    """Return per species how many places were rejected, and the fraction of the training voxels around them; None if they are not learnt from.

    Parameters
    ----------
    radii
        Radius of the labels, and of the balls around rejected places, per species, in voxels of the level.
    """
    weight = settings.objective.rejected_weight
    if labelled.rejected is None or weight == 0:
        return None
    voxels = sum(math.prod(t.shape) for t in labelled.tomograms)
    shape = settings.train.label_shape
    found: list[KnownNegatives] = []
    for i, radius in enumerate(radii):
        places = labelled.rejected_of(i)
        count = sum(
            _labelled_voxels(t.shape, own, radius, shape, beside=points[i])
            for t, own, points in zip(labelled.tomograms, places, labelled.points, strict=True)
        )
        found.append(KnownNegatives(sum(map(len, places)) / max(1, labelled.count(i)), count / voxels, weight))
    return found


def _labelled_voxels(shape: Triple, points: np.ndarray, radius: float, kind: str, *, beside: np.ndarray | None = None) -> int:
    """Count the voxels of the union of the labels, and in none of the labels of the points `beside`.

    Each label counts its voxels that are in no earlier label.
    """
    total = 0
    for i, point in enumerate(points):
        reach = int(np.ceil(radius)) + 1
        centre = triple([round(float(c)) for c in point])
        box = Box(centre, triple([c + 1 for c in centre])).expanded(reach).clipped(Box.whole(shape))
        own = mask_of_box(box, points[i : i + 1], radius=radius, shape=kind, volume=shape).astype(bool)
        earlier = mask_of_box(box, points[:i], radius=radius, shape=kind, volume=shape).astype(bool)
        if beside is not None:
            earlier |= mask_of_box(box, beside, radius=radius, shape=kind, volume=shape).astype(bool)
        total += int(np.count_nonzero(own & ~earlier))
    return total
