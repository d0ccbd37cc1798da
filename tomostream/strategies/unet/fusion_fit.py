"""Join the filter, and a pretrained head where it helps, to a trained network; weights and intercept are measured on the training tomograms.

1. Draw a box of each training tomogram, those without clicks included, from the seed; `MEASURED_VOX` voxels in total.
2. If left-out clicks call for a pretrained head (`gathering`), give it the same weight as the trained network: the averaged logits of both have the
   same standard deviation in the boxes.
3. The weight of the filter is the configured one, in units of the standard deviations of the trained network's averaged logits and of the
   correlation, times the trust that left-out clicks put in the filter (`gathering.trust_in`).
4. The intercept is minus the sum at the pick whose rank is the expected number of particles in the boxes.  So at a score of 0.5 the training
   tomograms give about the expected number of picks.

The profile is made from the clicks alone.  Making it again from the best picks helped for one simulator and hurt for another, and left-out clicks
could not tell which (docs/accuracy.md).

Limits: in a tomogram of different contrast the order of the scores is the same but the threshold is not; `count: auto` therefore looks at the peaks
of each tomogram.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.geometry import Box
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.picking.protocol import Picks
from tomostream.strategies.sample_boxes import MEASURED_VOX, box_within
from tomostream.strategies.unet.fusion import MatchedSettings
from tomostream.strategies.unet.gathering import Gathered, Told, heads_of
from tomostream.strategies.unet.settings import MatchedFilter

if TYPE_CHECKING:
    from tomostream.config.sections import Species
    from tomostream.strategies.training_set import Labelled, Training
    from tomostream.strategies.unet.network import ResidualUNet


@dataclass(frozen=True, slots=True)
class Joined:
    """The network, joined with the pretrained one where that helps, and the settings and profiles of the filter."""

    network: ResidualUNet
    is_wider: bool  # whether the pretrained network is joined to it
    settings: MatchedSettings
    profiles: tuple[np.ndarray, ...]


def join_told(training: Training, network: ResidualUNet, gathered: Gathered, *, precision: str) -> Joined:
    """Join a trained network with the filter and the head that the clicks chose.

    Parameters
    ----------
    training
        Its tomograms, with and without clicks, are measured.
    network
        The trained network.
    gathered
        Filters and heads, and the species with their expected numbers, given or estimated.
    precision
        Precision of the network: float32 or bf16.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    given = training.settings.section(MatchedFilter)
    radii = training.radii_vox
    smooth = given.smooth * min(radii)
    measured = _Measured(training, gathered.species, given)
    scored = _score_boxes(measured, network, smooth, precision)
    deviations = [_deviation([one.logits[number] for one in scored]) for number in range(len(radii))]
    heads = heads_of(gathered.told)
    if heads is not None:
        network, scored = _with_head(measured, network, heads, scored, deviations, precision)
    found = [
        _join(measured, scored, number, radius, told, deviations[number])
        for number, (radius, told) in enumerate(zip(radii, gathered.told, strict=True))
    ]
    settings = MatchedSettings(
        support_vox=tuple(defaults.SUPPORT * radius for radius in radii),
        floor=defaults.MATCHED_FLOOR,
        weight=tuple(weight for weight, _ in found),
        intercept=tuple(intercept for _, intercept in found),
        smooth_vox=smooth,
    )
    return Joined(network, heads is not None, settings, tuple(told.profile for told in gathered.told))


@dataclass(frozen=True, slots=True)
class _Measured:
    """The training, and the species with their expected numbers, on which weights and intercepts are measured."""

    training: Training
    species: tuple[Species, ...]
    given: MatchedFilter

    @property
    def labelled(self) -> Labelled:
        """The training tomograms."""
        return self.training.labelled


@dataclass(frozen=True, slots=True)
class _Scored:
    """A scored box of a training tomogram."""

    tomogram: int  # index of the tomogram
    box: Box
    share: float  # voxels of the box over those of the tomogram
    logits: np.ndarray  # averaged logits of the network, (s, z, y, x)


def _with_head(
    measured: _Measured, network: ResidualUNet, heads: np.ndarray, scored: list[_Scored], deviations: list[float], precision: str
) -> tuple[ResidualUNet, list[_Scored]]:
    """Join the pretrained network, with the given heads, to the network; return it and its averaged logits in the same boxes."""
    from tomostream.strategies.unet.joining import join
    from tomostream.strategies.unet.pretrained.backbone import shipped_backbone
    from tomostream.strategies.unet.pretrained.seeing import with_training_statistics

    beside = with_training_statistics(measured.training, shipped_backbone().with_head(heads, np.zeros(len(heads))))
    smooth = measured.given.smooth * min(measured.training.radii_vox)
    other = [one.logits for one in _score_boxes(measured, beside, smooth, precision)]
    weights = [own / _deviation([one[number] for one in other]) if heads[number].any() else 0.0 for number, own in enumerate(deviations)]
    scale = np.array(weights, dtype=np.float32).reshape(-1, 1, 1, 1)
    both = [replace(one, logits=one.logits + scale * more) for one, more in zip(scored, other, strict=True)]
    return join(network, beside, weights), both


def _score_boxes(measured: _Measured, network: ResidualUNet, smooth: float, precision: str) -> list[_Scored]:
    """Score a random box of each training tomogram with the network as prediction will; the boxes are the same in every call."""
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


def _join(measured: _Measured, scored: list[_Scored], number: int, radius: float, told: Told, deviation: float) -> tuple[float, float]:
    """Return the weight and the intercept of one species' filter.

    Parameters
    ----------
    number
        Index of the species.
    radius
        Radius of the particle, in voxels of the level.
    told
        What the clicks tell of the species: the filter's profile, and the trust in it.
    deviation
        Standard deviation of the trained network's averaged logits.
    """
    correlations = _correlations(measured, scored, told.profile, defaults.SUPPORT * radius)
    weight = told.trust * measured.given.weight * deviation / _deviation(correlations)
    expected = [one.share * _expected_in(measured, one.tomogram, number) for one in scored]
    picked = [
        _picks(measured.training.settings.memory, one.logits[number] + np.float32(weight) * correlation, radius, 3 * count).score
        for one, correlation, count in zip(scored, correlations, expected, strict=True)
        if count > 0
    ]
    scores = np.sort(np.concatenate([np.empty(0), *picked]))[::-1]
    border = float(scores[min(len(scores), max(1, round(sum(expected)))) - 1]) if len(scores) else 0.0
    return weight, -border


def _expected_in(measured: _Measured, index: int, number: int) -> float:
    """Return the expected number of particles of species `number` in training tomogram `index`."""
    own = measured.species[number].expected_in(measured.labelled.tomograms[index].name)
    return float(own if own is not None else defaults.EXPECTED_PER_CLICK * len(measured.labelled.points[index][number]))


def _correlations(measured: _Measured, scored: list[_Scored], profile: np.ndarray, support: float) -> list[np.ndarray]:
    """Return the correlation with a profile in each box."""
    from tomostream.strategies.matched_filter.correlation import CorrelationScorer
    from tomostream.strategies.matched_filter.kernels import profile_target
    from tomostream.strategies.matched_filter.sampled_correlation import correlations_in
    from tomostream.strategies.unet.fusion import PIECE_VOX

    scorer = CorrelationScorer([profile_target(profile, support)], floor=defaults.MATCHED_FLOOR, threads=None, piece=PIECE_VOX)
    result: list[np.ndarray] = []
    for one in scored:
        tomogram = measured.labelled.tomograms[one.tomogram]
        result.append(correlations_in(one.box, scorer, tomogram.read_standardised, tomogram.shape))
    return result


def _deviation(parts: list[np.ndarray]) -> float:
    return max(float(np.std(np.concatenate([part.ravel() for part in parts]), dtype=np.float64)), 1e-6)


def _picks(memory: int, total: np.ndarray, radius: float, count: float) -> Picks:
    return pick_array(total, radius=radius, how_many=Best(math.ceil(count)), memory=memory)
