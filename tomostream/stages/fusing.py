"""How do the trained network and the clicks' average go together?  Profile, weight and intercept, measured on the training tomograms.

1. The radial profile that finds the clicked particles, at the filter's level (`strategies.discriminant`).
2. Boxes of the training tomograms, the unlabelled ones too, at places drawn from the seed; `MEASURED_VOX` voxels of that level in all.
3. The weight: the configured one, in units of the standard deviations of the network's averaged logits and of the correlation there.
4. The intercept: minus the sum at the pick whose rank is the number of particles expected in the boxes.  So at score 0.5 the training
   tomograms give as many picks as are expected.

Limits: a tomogram of other contrast has the same order of scores, but not the same threshold; picking by `count: auto` looks at each one's own peaks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.budget import network_cost
from tomostream.geometry import Box, triple
from tomostream.learn.model_folder import MatchedSettings
from tomostream.picking.blocks import pick_array
from tomostream.stages.converting import measure

if TYPE_CHECKING:
    from tomostream.config import Configuration
    from tomostream.learn.resunet import ResidualUNet
    from tomostream.stages.training import Labelled
    from tomostream.strategies.fusion import FusedScorer
    from tomostream.tomogram import Tomogram

MEASURED_VOX = 8_000_000  # of all boxes: a few seconds


@dataclass(frozen=True, slots=True)
class Filter:
    """What joins the network: how, and the profiles, one a species."""

    settings: MatchedSettings
    profiles: tuple[np.ndarray, ...]


def matched_filter(
    configuration: Configuration, network: ResidualUNet, labelled: Labelled, radii: list[float], *, precision: str
) -> Filter | None:
    """Make the filter that joins a trained network; None where the configuration gives it no weight.

    Parameters
    ----------
    network
        Trained.
    labelled
        The training tomograms, with and without labels.
    radii
        Of the species, voxels of the network's level.
    precision
        Of the network.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    from tomostream.inference.scorer import Scorer
    from tomostream.strategies.discriminant import learnt_profile
    from tomostream.strategies.fusion import FusedScorer, filter_level
    from tomostream.strategies.matched import padded_reader

    given = configuration.matched_filter
    if given.weight == 0:
        return None
    level = labelled.tomograms[0].level
    fine_level = filter_level(level)
    fine_radii = [radius * 2 ** (level - fine_level) for radius in radii]
    fine = [_measured_at(tomogram, fine_level, configuration.memory_bytes) for tomogram in labelled.tomograms]
    points = [
        [there.to_level_positions(here.from_level_positions(own)) for own in of_tomogram]
        for here, there, of_tomogram in zip(labelled.tomograms, fine, labelled.points, strict=True)
    ]
    readers = [padded_reader(tomogram) for tomogram in fine]
    supports = [defaults.SUPPORT * radius for radius in fine_radii]
    shapes = [tomogram.shape for tomogram in fine]
    profiles = tuple(
        learnt_profile(
            shapes,
            readers,
            [of_tomogram[number] for of_tomogram in points],
            radius=radius,
            support=support,
            floor=defaults.NORMALISATION_FLOOR,
            seed=configuration.train.seed,
        ).values
        for number, (radius, support) in enumerate(zip(fine_radii, supports, strict=True))
    )
    species = len(radii)
    settings = MatchedSettings(
        level=fine_level,
        support_vox=tuple(supports),
        floor=defaults.NORMALISATION_FLOOR,
        weight=(1.0,) * species,
        intercept=(0.0,) * species,
        smooth_vox=given.smooth * min(radii),
    )
    scorer = Scorer(network, device=configuration.predict.device, precision=precision, threads=None)
    cost = network_cost(network.channels, species=species, precision=precision)
    measured = _measure(
        FusedScorer(scorer, cost, settings, profiles, threads=None),
        labelled.tomograms,
        fine,
        np.random.default_rng([configuration.train.seed, 1]),
    )
    weights = [given.weight * _deviation(measured.logits, i) / max(_deviation(measured.correlations, i), 1e-6) for i in range(species)]
    intercepts = [-_border(configuration, measured, labelled, number, weight, fine_radii[number]) for number, weight in enumerate(weights)]
    return Filter(replace(settings, weight=tuple(weights), intercept=tuple(intercepts)), profiles)


@dataclass(frozen=True, slots=True)
class _Measured:
    """Per box: the tomogram's index, the share of it that the box is, and, at the filter's level, logits and correlations (s, z, y, x)."""

    tomograms: list[int]
    shares: list[float]
    logits: list[np.ndarray]
    correlations: list[np.ndarray]


def _measured_at(tomogram: Tomogram, level: int, memory: int) -> Tomogram:
    """The tomogram at another level, with its statistics there."""
    other = tomogram.at_level(level)
    return other.with_normalisation(measure(other, memory=memory))


def _measure(scorer: FusedScorer, tomograms: list[Tomogram], fine: list[Tomogram], rng: np.random.Generator) -> _Measured:
    """Score boxes of the tomograms, given at the network's level and at the filter's; the intercept is 0 and the weights are 1 yet."""
    from tomostream.inference.regions import read_extended
    from tomostream.inference.upsample import supporting_box, upsample

    result = _Measured([], [], [], [])
    for number, (coarse, tomogram) in enumerate(zip(tomograms, fine, strict=True)):
        box = box_within(tomogram, MEASURED_VOX // len(tomograms), rng)
        levels = coarse.level - tomogram.level
        needed = supporting_box(box, levels, coarse.shape)
        read = scorer.read_box(needed, coarse.shape)
        logits = scorer.logits(read_extended(coarse.read_standardised, read, coarse.shape), read, needed, coarse.shape)
        interpolated = np.empty((scorer.species, *box.shape), dtype=np.float32)
        upsample(logits, needed.start, box, levels, coarse.shape, interpolated)
        read = scorer.fine.read_box(box, tomogram.shape)
        image = tomogram.read_standardised(read)
        result.tomograms.append(number)
        result.shares.append(box.size / math.prod(tomogram.shape))
        result.logits.append(interpolated)
        result.correlations.append(scorer.fine.logits(image, read, box, tomogram.shape))
    return result


def box_within(tomogram: Tomogram, voxels: int, rng: np.random.Generator) -> Box:
    """A box of at most so many voxels at a random place: the volume, its longest edge halved until it is small enough."""
    edges = list(tomogram.shape)
    while math.prod(edges) > max(voxels, 1):
        axis = edges.index(max(edges))
        edges[axis] = -(-edges[axis] // 2)
    start = triple([int(rng.integers(0, n - e + 1)) for n, e in zip(tomogram.shape, edges, strict=True)])
    return Box(start, triple([a + e for a, e in zip(start, edges, strict=True)]))


def _deviation(parts: list[np.ndarray], species: int) -> float:
    return float(np.std(np.concatenate([part[species].ravel() for part in parts]), dtype=np.float64))


def _border(configuration: Configuration, measured: _Measured, labelled: Labelled, number: int, weight: float, radius: float) -> float:
    """The sum of logits and weighted correlation at the pick whose rank is the expected number."""
    species = configuration.species[number]
    peaks: list[np.ndarray] = []
    expected = 0.0
    for index, share, logits, correlations in zip(measured.tomograms, measured.shares, measured.logits, measured.correlations, strict=True):
        points = labelled.points[index][number]
        own = species.expected_in(labelled.tomograms[index].name)
        count = share * (own if own is not None else defaults.EXPECTED_PER_CLICK * len(points))
        if count == 0:
            continue
        expected += count
        total = logits[number] + np.float32(weight) * correlations[number]
        picks = pick_array(total, radius=radius, threshold=None, count=max(1, math.ceil(3 * count)), memory=configuration.memory_bytes)
        peaks.append(picks.score)
    scores = np.sort(np.concatenate(peaks))[::-1] if peaks else np.empty(0)
    return float(scores[min(len(scores), max(1, round(expected))) - 1]) if len(scores) else 0.0
