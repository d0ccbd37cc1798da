"""Fit the matched filter to a trained network: profile, weight and intercept, measured on the training tomograms.

1. The radial profile that separates the clicked particles from other peaks, at the network's level (`strategies.matched_filter.discriminant`).
2. Boxes of the training tomograms, the unlabelled ones too, at places drawn from the seed; `MEASURED_VOX` voxels in all.
3. The weight: the configured one, in units of the standard deviations of the network's averaged logits and of the correlation there.
4. The profile again, from the clicks and the surest picks of network and filter in the boxes: few clicks give a poor mean, and picks that
   both are sure of are hardly ever wrong.  The weight again.
5. The intercept: minus the sum at the pick whose rank is the number of particles expected in the boxes.  So at score 0.5 the training
   tomograms give as many picks as are expected.

Limits: a tomogram of other contrast has the same order of scores, but not the same threshold; picking by `count: auto` looks at each one's own peaks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.geometry import Box
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.picking.protocol import Picks
from tomostream.strategies.sample_boxes import MEASURED_VOX, box_within
from tomostream.strategies.unet.fusion import MatchedSettings
from tomostream.strategies.unet.settings import MatchedFilter

if TYPE_CHECKING:
    from tomostream.config.sections import Species
    from tomostream.strategies.training_set import Labelled, Training
    from tomostream.strategies.unet.network import ResidualUNet

SUREST = 0.3  # share of the expected particles whose picks are taken for particles


@dataclass(frozen=True, slots=True)
class Filter:
    """What joins the network: the settings, and the profiles, one per species."""

    settings: MatchedSettings
    profiles: tuple[np.ndarray, ...]


def matched_filter(training: Training, network: ResidualUNet, species: Sequence[Species], *, precision: str) -> Filter | None:
    """Make the filter that joins a trained network; None where the configuration gives it no weight.

    Parameters
    ----------
    training
        Whose tomograms, with and without labels, it is measured on.
    network
        Trained.
    species
        With their expected numbers, given or estimated.
    precision
        Of the network.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    given = training.settings.section(MatchedFilter)
    if given.weight == 0:
        return None
    radii = training.radii_vox
    measured = _Measured(training, tuple(species), given)
    scored = _score_boxes(measured, network, given.smooth * min(radii), precision)
    found = [_join(measured, scored, number, radius) for number, radius in enumerate(radii)]
    settings = MatchedSettings(
        support_vox=tuple(defaults.SUPPORT * radius for radius in radii),
        floor=defaults.MATCHED_FLOOR,
        weight=tuple(one.weight for one in found),
        intercept=tuple(one.intercept for one in found),
        smooth_vox=given.smooth * min(radii),
    )
    return Filter(settings, tuple(one.profile for one in found))


@dataclass(frozen=True, slots=True)
class _Measured:
    """What profiles and weights are measured on."""

    training: Training
    species: tuple[Species, ...]
    given: MatchedFilter

    @property
    def labelled(self) -> Labelled:
        """The training tomograms."""
        return self.training.labelled


@dataclass(frozen=True, slots=True)
class _Scored:
    """A box of a training tomogram."""

    tomogram: int  # which
    box: Box
    share: float  # of the tomogram's voxels
    logits: np.ndarray  # the network's, averaged: (s, z, y, x)


@dataclass(frozen=True, slots=True)
class _Joined:
    """A species' part of the filter."""

    profile: np.ndarray
    weight: float
    intercept: float


def _score_boxes(measured: _Measured, network: ResidualUNet, smooth: float, precision: str) -> list[_Scored]:
    from tomostream.inference.batch_statistics import adapted
    from tomostream.inference.region_scoring import read_extended
    from tomostream.learn.precision import resolve_device
    from tomostream.strategies.unet.fusion import AveragedScorer
    from tomostream.strategies.unet.model import unet_sampling
    from tomostream.strategies.unet.scorer import StreamedNetwork

    settings, labelled = measured.training.settings, measured.labelled
    device = resolve_device(settings.device)
    sampling = unet_sampling(network.stride)
    rng = np.random.default_rng([settings.train.seed, 1])
    result: list[_Scored] = []
    for number, tomogram in enumerate(labelled.tomograms):
        own = network
        if settings.network.batch_statistics == "tomogram":
            own = adapted(network, sampling.images(tomogram.read_standardised, tomogram.shape), device=device)
        scorer = StreamedNetwork(own, device=device.type, precision=precision, threads=None)
        averaged = AveragedScorer(scorer, smooth_vox=smooth)
        box = box_within(tomogram, MEASURED_VOX // len(labelled.tomograms), rng)
        read = averaged.read_box(box, tomogram.shape)
        image = read_extended(tomogram.read_standardised, read, tomogram.shape)
        logits = averaged.logits(image, read, box, tomogram.shape)
        result.append(_Scored(number, box, box.size / math.prod(tomogram.shape), logits))
    return result


def _join(measured: _Measured, scored: list[_Scored], number: int, radius: float) -> _Joined:
    """Profile, weight and intercept of one species; radius in voxels."""
    from tomostream.strategies.matched_filter.discriminant import compared_profiles, profiles_at, telling_profile
    from tomostream.strategies.matched_filter.kernels import padded_reader

    labelled, settings = measured.labelled, measured.training.settings
    readers = [padded_reader(tomogram) for tomogram in labelled.tomograms]
    support = defaults.SUPPORT * radius
    rows, peaks = compared_profiles(
        [tomogram.shape for tomogram in labelled.tomograms],
        readers,
        [points[number] for points in labelled.points],
        radius=radius,
        support=support,
        floor=defaults.NORMALISATION_FLOOR,
        seed=settings.train.seed,
    )
    expected = [one.share * _expected_in(measured, one.tomogram, number) for one in scored]
    totals, _ = _totals(measured, scored, number, telling_profile(rows, peaks, support=support), support)
    clear = [
        profiles_at(readers[one.tomogram], one.box, _picks(settings.memory, total, radius, SUREST * count).index_zyx, length=rows.shape[1])
        for one, total, count in zip(scored, totals, expected, strict=True)
        if count > 0
    ]
    profile = telling_profile(np.concatenate([rows, *clear]), peaks, support=support)
    totals, weight = _totals(measured, scored, number, profile, support)
    picked = [_picks(settings.memory, total, radius, 3 * count).score for total, count in zip(totals, expected, strict=True) if count > 0]
    scores = np.sort(np.concatenate([np.empty(0), *picked]))[::-1]
    border = float(scores[min(len(scores), max(1, round(sum(expected)))) - 1]) if len(scores) else 0.0
    return _Joined(profile, weight, -border)


def _expected_in(measured: _Measured, index: int, number: int) -> float:
    """Particles of a species in a training tomogram."""
    own = measured.species[number].expected_in(measured.labelled.tomograms[index].name)
    return float(own if own is not None else defaults.EXPECTED_PER_CLICK * len(measured.labelled.points[index][number]))


def _totals(measured: _Measured, scored: list[_Scored], number: int, profile: np.ndarray, support: float) -> tuple[list[np.ndarray], float]:
    """Return the sums of logits and weighted correlation in the boxes, and the weight."""
    from tomostream.strategies.matched_filter.correlation import CorrelationScorer
    from tomostream.strategies.matched_filter.kernels import profile_target
    from tomostream.strategies.unet.fusion import PIECE_VOX

    scorer = CorrelationScorer([profile_target(profile, support)], floor=defaults.MATCHED_FLOOR, threads=None, piece=PIECE_VOX)
    correlations: list[np.ndarray] = []
    for one in scored:
        tomogram = measured.labelled.tomograms[one.tomogram]
        read = scorer.read_box(one.box, tomogram.shape)
        correlations.append(scorer.correlations(tomogram.read_standardised(read), read, one.box, tomogram.shape)[0])
    logits = [one.logits[number] for one in scored]
    weight = measured.given.weight * _deviation(logits) / max(_deviation(correlations), 1e-6)
    return [own + np.float32(weight) * correlation for own, correlation in zip(logits, correlations, strict=True)], weight


def _deviation(parts: list[np.ndarray]) -> float:
    return float(np.std(np.concatenate([part.ravel() for part in parts]), dtype=np.float64))


def _picks(memory: int, total: np.ndarray, radius: float, count: float) -> Picks:
    return pick_array(total, radius=radius, how_many=Best(math.ceil(count)), memory=memory)
