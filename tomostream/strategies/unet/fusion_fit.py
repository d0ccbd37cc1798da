"""Join the filter, and a pretrained head where it helps, to a trained network; weights and intercept are measured on the training tomograms.

1. Draw a box of each training tomogram, those without clicks included, from the seed; `MEASURED_VOX` voxels in total, at least half of them in
   clicked tomograms, and more there if too few particles would be in them (`random_boxes`).
2. The network weighs less where it ranks even the clicks that it learnt from low (`network_trust`).
3. If left-out clicks call for a pretrained head (`gathering`), give it the weight of a trusted network: the averaged logits of both have the same
   standard deviation in the boxes.
4. The weight of the filter is the configured one, in units of the standard deviations of the trained network's averaged logits and of the
   correlation, times the trust that left-out clicks put in the filter (`gathering.trust_in`).
5. The intercept is minus the sum at the pick whose rank is the expected number of particles in the boxes.  So at a score of 0.5 the training
   tomograms give about the expected number of picks.
6. If the best picks are of two kinds by their radial profiles, what tells these apart is added (`lookalike_fit`), before the intercept is taken.
7. The median of the sum is the background, towards which scores give way where a tomogram is noisy near its faces (`inference.quiet_faces`).

The profile is made from the clicks alone.  Making it again from the best picks helped for one simulator and hurt for another, and left-out clicks
could not tell which (docs/measurements.md).

Limits: in a tomogram of different contrast the order of the scores is the same but the threshold is not; `count: auto` therefore looks at the peaks
of each tomogram.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.inference.face_noise import FaceNoise
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.picking.protocol import Picks
from tomostream.strategies.unet.fusion import MatchedSettings
from tomostream.strategies.unet.gathering import Gathered, Told, heads_of
from tomostream.strategies.unet.lookalike_fit import Part, Split, settings_of, split_picks, tell_apart
from tomostream.strategies.unet.lookalikes import LookAlikes
from tomostream.strategies.unet.network_trust import boxes_around_clicks, network_shares
from tomostream.strategies.unet.sampled_logits import Scored, random_boxes, score_boxes
from tomostream.strategies.unet.settings import MatchedFilter

if TYPE_CHECKING:
    from tomostream.config.sections import Species
    from tomostream.progress import Progress
    from tomostream.strategies.training_set import Labelled, Training
    from tomostream.strategies.unet.network import ResidualUNet


@dataclass(frozen=True, slots=True)
class Joined:
    """The network, joined with the pretrained one where that helps, and the settings and profiles of the filter."""

    network: ResidualUNet
    is_wider: bool  # whether the pretrained network is joined to it
    settings: MatchedSettings
    profiles: tuple[np.ndarray, ...]
    shares: tuple[float, ...]  # per species, the share of its weight that the trained network kept
    faces: FaceNoise  # how noise near the faces is treated
    lookalikes: LookAlikes | None  # how look-alikes are told from particles

    @property
    def tells_look_alikes(self) -> list[bool]:
        """Whether look-alikes are told from particles, per species."""
        return [self.lookalikes is not None and bool(self.lookalikes.shells[number]) for number in range(len(self.shares))]


def join_told(training: Training, network: ResidualUNet, gathered: Gathered, progress: Progress, *, precision: str) -> Joined:
    """Join a trained network with the filter and the head that the clicks chose.

    Parameters
    ----------
    training
        Its tomograms, with and without clicks, are measured.
    network
        The trained network.
    gathered
        Filters and heads, and the species with their expected numbers, given or estimated.
    progress
        Receives the log lines.
    precision
        Precision of the network: float32 or bf16.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    from tomostream.strategies.unet.joining import scaled

    radii = training.radii_vox
    measured = _Measured(training, gathered.species, training.settings.section(MatchedFilter))
    boxes = random_boxes(training, [measured.expected(number) for number in range(len(radii))])
    seen = score_boxes(training, network, boxes + boxes_around_clicks(training, gathered.told), smooth=measured.smooth, precision=precision)
    scored, around = seen[: len(boxes)], seen[len(boxes) :]
    deviations = [_deviation([one.logits[number] for one in scored]) for number in range(len(radii))]
    shares = network_shares(training, gathered, scored, around, progress)
    network = scaled(network, shares)
    scored = [one.times(shares) for one in scored]
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
        weight=tuple(one.weight for one in found),
        intercept=tuple(one.intercept for one in found),
        smooth_vox=measured.smooth,
    )
    faces = FaceNoise.of_radii(radii, [one.background for one in found])
    lookalikes = settings_of([one.split for one in found])
    for one, kind in zip(found, gathered.species, strict=True):
        if one.split is not None:
            progress.say(
                f"{kind.name}: the best picks are of two kinds by their radial profiles; that of the best half is preferred (`matched_filter.look_alikes: 0` turns it off)"
            )
    return Joined(network, heads is not None, settings, tuple(told.profile for told in gathered.told), tuple(shares), faces, lookalikes)


@dataclass(frozen=True, slots=True)
class _Found:
    """How the filter of one species joins, and what comes out."""

    weight: float  # logits per unit of correlation
    intercept: float  # logits
    background: float  # median logit of the joined scores
    split: Split | None  # what tells its look-alikes


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

    @property
    def smooth(self) -> float:
        """Radius of the ball over which the network's logits are averaged, in voxels of the level."""
        return self.given.smooth * min(self.training.radii_vox)

    def expected_in(self, index: int, number: int) -> float:
        """Return the expected number of particles of species `number` in training tomogram `index`."""
        own = self.species[number].expected_in(self.labelled.tomograms[index].name)
        return float(own if own is not None else defaults.EXPECTED_PER_CLICK * len(self.labelled.points[index][number]))

    def expected(self, number: int) -> float:
        """Return the expected number of particles of species `number` in all clicked tomograms together."""
        clicked = set(self.labelled.clicked.names)
        return sum(self.expected_in(index, number) for index, name in enumerate(self.labelled.names) if name in clicked)


def _with_head(
    measured: _Measured, network: ResidualUNet, heads: np.ndarray, scored: list[Scored], deviations: list[float], precision: str
) -> tuple[ResidualUNet, list[Scored]]:
    """Join the pretrained network, with the given heads, to the network; return it and its averaged logits in the same boxes."""
    from tomostream.strategies.unet.joining import join
    from tomostream.strategies.unet.pretrained.backbone import shipped_backbone
    from tomostream.strategies.unet.pretrained.seeing import with_training_statistics

    beside = with_training_statistics(measured.training, shipped_backbone().with_head(heads, np.zeros(len(heads))))
    boxes = [(one.tomogram, one.box) for one in scored]
    other = [one.logits for one in score_boxes(measured.training, beside, boxes, smooth=measured.smooth, precision=precision)]
    weights = [own / _deviation([one[number] for one in other]) if heads[number].any() else 0.0 for number, own in enumerate(deviations)]
    scale = np.array(weights, dtype=np.float32).reshape(-1, 1, 1, 1)
    both = [replace(one, logits=one.logits + scale * more) for one, more in zip(scored, other, strict=True)]
    return join(network, beside, weights), both


def _join(measured: _Measured, scored: list[Scored], number: int, radius: float, told: Told, deviation: float) -> _Found:
    """Return the weight and the intercept of one species' filter, and the background of the sum.

    Parameters
    ----------
    number
        Index of the species.
    radius
        Radius of the particle, in voxels of the level.
    told
        What the clicks tell of the species: the filter's profile, and the trust in it.
    deviation
        Standard deviation of the trained network's averaged logits, before `network_trust`.
    """
    correlations = _correlations(measured, scored, told.profile, defaults.SUPPORT * radius)
    weight = told.trust * measured.given.weight * deviation / _deviation(correlations)
    expected = [one.share * measured.expected_in(one.tomogram, number) for one in scored]
    sums = [one.logits[number] + np.float32(weight) * correlation for one, correlation in zip(scored, correlations, strict=True)]
    memory = measured.training.settings.memory
    parts = [_part(measured, number, *one) for one in zip(scored, sums, expected, strict=True)]
    split = split_picks(parts, radius=radius, weight=measured.given.look_alikes, memory=memory)
    if split is not None:
        split, sums = tell_apart(split, parts, radius=radius, memory=memory)
    picked = [_picks(memory, total, radius, 3 * count).score for total, count in zip(sums, expected, strict=True) if count > 0]
    scores = np.sort(np.concatenate([np.empty(0), *picked]))[::-1]
    border = float(scores[min(len(scores), max(1, round(sum(expected)))) - 1]) if len(scores) else 0.0
    return _Found(weight, -border, float(np.median(np.concatenate([total.ravel() for total in sums]))) - border, split)


def _part(measured: _Measured, number: int, scored: Scored, total: np.ndarray, expected: float) -> Part:
    """Return a scored box for `lookalike_fit`."""
    from tomostream.strategies.matched_filter.kernels import padded_reader

    tomogram, clicks = measured.labelled.tomograms[scored.tomogram], measured.labelled.points[scored.tomogram][number]
    known = expected if tomogram.name in measured.labelled.clicked.names else 0.0
    return Part(padded_reader(tomogram), tomogram.shape, scored.box, total, clicks, known)


def _correlations(measured: _Measured, scored: list[Scored], profile: np.ndarray, support: float) -> list[np.ndarray]:
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
