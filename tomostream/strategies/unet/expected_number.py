"""Estimate the number of particles in the clicked tomograms, where the configuration gives none.

There are two estimates.  Both are too high where there are many look-alikes, for different reasons; the lower one is taken.

1. From the ranks of left-out clicks (`pretrained.evidence.number_of`), if there are enough clicks.  It is far too high if clicks are misplaced or
   the filter does not find them.
2. From the peaks.  Learn a radial profile from the clicks (`strategies.matched_filter.discriminant`), correlate it with boxes of the clicked
   tomograms, take the highest peaks (as many as balls of the particle's radius fit side by side into about half of the boxes), and split their scores
   into noise and particles (`picking.two_groups`) with a very weak prior.  For a rare species, this counts other species too.

The estimate is at most the number of balls of the particle's radius that fill half of the volume.

Limits: a number given by a person is better (docs/measurements.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.geometry import Box
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.picking.two_groups import CANDIDATES, particles_among
from tomostream.strategies.sample_boxes import MEASURED_VOX, box_within

if TYPE_CHECKING:
    from tomostream.config.sections import Species
    from tomostream.progress import Progress
    from tomostream.strategies.training_set import Labelled, Training

_NO_GUESS = 5.0  # standard deviation of the prior of the number's logarithm; so wide that the prior says next to nothing
_FULLEST = 0.5  # largest fraction of the volume that particles may fill
_PEAK_EDGES = 10.0  # volume of the box per candidate peak, in cubed radii


def with_estimates(training: Training, numbers: Sequence[float | None], progress: Progress) -> tuple[Species, ...]:
    """Return the species with missing expected numbers filled in by estimates, and log the estimates.

    Parameters
    ----------
    training
        Settings and clicked tomograms.
    numbers
        Per species, the number in all clicked tomograms together, estimated from the ranks of left-out clicks; None: too few clicks.
    progress
        Receives the log lines.

    Returns
    -------
    tuple of Species
        The species; unchanged if no number is missing.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    settings, labelled = training.settings, training.labelled.clicked
    species: list[Species] = []
    for number, (one, radius) in enumerate(zip(settings.species, training.radii_vox, strict=True)):
        if one.expected is not None:
            species.append(one)
            continue
        voxels = sum(math.prod(t.shape) for t in labelled.tomograms)
        density = min(_density(labelled, number, radius, settings.train.seed, settings.memory), _FULLEST / (4 / 3 * math.pi * radius**3))
        told = numbers[number]
        if told is not None:
            density = min(density, told / voxels)
        least = {t.name: len(points[number]) for t, points in zip(labelled.tomograms, labelled.points, strict=True)}
        expected = {t.name: max(least[t.name] + 1, round(density * math.prod(t.shape))) for t in labelled.tomograms}
        species.append(one.model_copy(update={"expected": expected}))
        text = ", ".join(f"{count} in {name}" for name, count in expected.items())
        progress.say(
            f"{one.name}: the expected number is estimated from the clicks: {text}; it may be off by a third, and much too high for a rare species among "
            "look-alikes; set `expected: NUMBER` if you know better"
        )
    return tuple(species)


def known_number(training: Training, number: int) -> float | None:
    """Return the configured number of particles of species `number` in all clicked tomograms together; None if one of them has none."""
    found = [training.settings.species[number].expected_in(name) for name in training.labelled.clicked.names]
    return None if None in found else float(sum(one for one in found if one is not None))


def numbers_in(training: Training, species: Sequence[Species], number: int) -> list[float]:
    """Return the number of particles of species `number` in each clicked tomogram: given or estimated.

    For a tomogram without a number it is `defaults.EXPECTED_PER_CLICK` times the number of clicks.
    """
    labelled = training.labelled.clicked
    found = [species[number].expected_in(name) for name in labelled.names]
    clicks = [len(points[number]) for points in labelled.points]
    return [float(defaults.EXPECTED_PER_CLICK * count if one is None else one) for one, count in zip(found, clicks, strict=True)]


def _density(labelled: Labelled, number: int, radius: float, seed: int, memory: int) -> float:
    """Estimate the number of particles per voxel from the peaks of a correlation with the clicks' profile."""
    from tomostream.strategies.matched_filter.correlation import CorrelationScorer
    from tomostream.strategies.matched_filter.discriminant import learnt_profile
    from tomostream.strategies.matched_filter.kernels import padded_reader, profile_target
    from tomostream.strategies.matched_filter.sampled_correlation import correlations_in

    support = defaults.SUPPORT * radius
    readers = [padded_reader(tomogram) for tomogram in labelled.tomograms]
    profile = learnt_profile(
        [tomogram.shape for tomogram in labelled.tomograms],
        readers,
        [points[number] for points in labelled.points],
        radius=radius,
        support=support,
        floor=defaults.NORMALISATION_FLOOR,
        seed=seed,
    ).values
    scorer = CorrelationScorer([profile_target(profile, support)], floor=defaults.NORMALISATION_FLOOR, threads=None)
    rng = np.random.default_rng([seed, 2])
    scores: list[np.ndarray] = []
    voxels = 0
    for tomogram in labelled.tomograms:
        box: Box = box_within(tomogram, MEASURED_VOX // len(labelled.tomograms), rng)
        found = correlations_in(box, scorer, tomogram.read_standardised, tomogram.shape)
        candidates = max(1, int(box.size / (_PEAK_EDGES * radius**3)))
        scores.append(pick_array(found, radius=radius, how_many=Best(candidates), memory=memory).score)
        voxels += box.size
    peaks = np.sort(np.concatenate(scores))[::-1]
    return particles_among(peaks, expected=max(1, len(peaks) // CANDIDATES), spread=_NO_GUESS) / voxels
