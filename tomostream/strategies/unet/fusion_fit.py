"""Join what the clicks told to a trained network: filter, pretrained head, weights and intercept, measured on the training tomograms.

1. Boxes of the training tomograms, the unlabelled ones too, at places drawn from the seed; `MEASURED_VOX` voxels in all.
2. A pretrained head, where left-out clicks call for one (`gathering`), weighs as much as the trained network: both averaged logits have the
   same standard deviation there.
3. The filter's weight: the configured one, in units of the standard deviations of the trained network's averaged logits and of the correlation;
   less where left-out clicks do not trust the filter (`gathering.trust_in`).
4. The intercept: minus the sum at the pick whose rank is the number of particles expected in the boxes.  So at score 0.5 the training
   tomograms give as many picks as are expected.

The profile is of the clicks alone: learnt again from the surest picks too, it was better by 0.01 for ribosomes of one simulator and worse by 0.03 for
those of another, and no left-out click tells which (docs/accuracy.md).

Limits: a tomogram of other contrast has the same order of scores, but not the same threshold; picking by `count: auto` looks at each one's own peaks.
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
    """What a training ends with: the network, with the pretrained one beside it where that helps, and the filter's settings and profiles."""

    network: ResidualUNet
    is_wider: bool  # the pretrained network is beside it
    settings: MatchedSettings
    profiles: tuple[np.ndarray, ...]


def join_told(training: Training, network: ResidualUNet, gathered: Gathered, *, precision: str) -> Joined:
    """Join a trained network with what the clicks told.

    Parameters
    ----------
    training
        Whose tomograms, with and without labels, it is measured on.
    network
        Trained.
    gathered
        With the species' expected numbers, given or estimated.
    precision
        Of the network.

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


def _with_head(
    measured: _Measured, network: ResidualUNet, heads: np.ndarray, scored: list[_Scored], deviations: list[float], precision: str
) -> tuple[ResidualUNet, list[_Scored]]:
    """The network with the pretrained one beside it, and its logits in the same boxes."""
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
    """Weight and intercept of a species' filter; radius in voxels, deviation of the trained network's logits."""
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
    """Particles of a species in a training tomogram."""
    own = measured.species[number].expected_in(measured.labelled.tomograms[index].name)
    return float(own if own is not None else defaults.EXPECTED_PER_CLICK * len(measured.labelled.points[index][number]))


def _correlations(measured: _Measured, scored: list[_Scored], profile: np.ndarray, support: float) -> list[np.ndarray]:
    """Return the correlations with a profile in the boxes."""
    from tomostream.strategies.matched_filter.correlation import CorrelationScorer
    from tomostream.strategies.matched_filter.kernels import profile_target
    from tomostream.strategies.unet.fusion import PIECE_VOX

    scorer = CorrelationScorer([profile_target(profile, support)], floor=defaults.MATCHED_FLOOR, threads=None, piece=PIECE_VOX)
    result: list[np.ndarray] = []
    for one in scored:
        tomogram = measured.labelled.tomograms[one.tomogram]
        read = scorer.read_box(one.box, tomogram.shape)
        result.append(scorer.correlations(tomogram.read_standardised(read), read, one.box, tomogram.shape)[0])
    return result


def _deviation(parts: list[np.ndarray]) -> float:
    return max(float(np.std(np.concatenate([part.ravel() for part in parts]), dtype=np.float64)), 1e-6)


def _picks(memory: int, total: np.ndarray, radius: float, count: float) -> Picks:
    return pick_array(total, radius=radius, how_many=Best(math.ceil(count)), memory=memory)
