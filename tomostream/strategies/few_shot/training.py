"""How is a few-shot model trained?  The backbone's features at the clicks, a head in closed form, and left-out clicks that say how to use it.

1. Each clicked tomogram gets the backbone's own batch-norm statistics there, a background box at a place drawn from the seed, and a small box
   around each click; their features are computed once.
2. For each species: what nobody clicked is peaks of anything (`backbone.anything`) and voxels at random, in the background boxes.
3. Each way of scoring (`evidence.WAYS`: heads of three shrinkages, the matched filter, their sums) is judged by left-out clicks; the log tells
   which won, and `model.json` keeps what each cost.
4. The winner is made from all clicks.  Its intercept puts 0 at the peak whose rank is the number expected in the background boxes.

The model is one of the U-Net's kind: network, matched filter, weights.  Nothing is iterated, so there is nothing to resume.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.geometry import Box, triple
from tomostream.inference.batch_statistics import adapted
from tomostream.inference.region_scoring import read_extended
from tomostream.learn.fit import write_metrics
from tomostream.learn.precision import resolve_device
from tomostream.learn.training_files import METRICS_NAME
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.picking.smoothing import ball_mean
from tomostream.progress import Progress
from tomostream.strategies.few_shot.backbone import Backbone, shipped_backbone
from tomostream.strategies.few_shot.evidence import WAYS, Way, chosen, cost_of, folds_of, peaks_of, rank_of
from tomostream.strategies.few_shot.head import SHIFT, Unclicked, fitted, steps_within, unclicked_of
from tomostream.strategies.matched_filter.correlation import CorrelationScorer
from tomostream.strategies.matched_filter.discriminant import compared_profiles, telling_profile
from tomostream.strategies.matched_filter.kernels import padded_reader, profile_target
from tomostream.strategies.model_folder import TrainingSummary
from tomostream.strategies.sample_boxes import box_within
from tomostream.strategies.training_set import Labelled, Training
from tomostream.strategies.unet.expected_number import with_estimates
from tomostream.strategies.unet.fusion import PIECE_VOX, MatchedSettings
from tomostream.strategies.unet.model import save_model, unet_sampling
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.scorer import StreamedNetwork, UNetScorer
from tomostream.strategies.unet.training import described_by
from tomostream.tomogram import Tomogram

BACKGROUND_VOX = 1_000_000  # of all background boxes
MOST_JUDGED = 30  # clicks of a species that are left out in turn
MOST_CLICKS = 100  # of a species that the head learns from: more tell it little, and each costs a second
_AROUND = 2.2  # radii of a click's box on each side
_RANDOM_VOXELS = 2000
_CROWDED = 0.5  # peaks of anything: so many balls of the particle's radius would fill this share of the background
_BLUR = 0.7  # voxels, of what sees anything


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A box of a tomogram and the features there: float16 (c, z, y, x)."""

    tomogram: int
    box: Box
    features: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class _Clicks:
    """A species' clicks, and which of them are left out in turn: for these the box is wide, for the others as far as they may move."""

    points: list[Float64[np.ndarray, " 3"]]
    parts: list[_Part]
    judged: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class _Profiles:
    """Radial profiles of clicks, one a row in the clicks' order, and of other peaks."""

    clicks: np.ndarray
    peaks: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What was made of a species' clicks."""

    way: Way
    costs: list[float]  # of each way, in the order of `WAYS`; none if there are too few clicks
    weights: np.ndarray
    bias: float
    profile: np.ndarray
    slope: float
    intercept: float


def train_few_shot(training: Training, folder: Path, progress: Progress) -> None:
    """Fit heads and filters and write the model folder.

    Raises
    ------
    TomostreamError
        If a species has no click, a tomogram can't be read, or the backbone is damaged.
    """
    backbone = shipped_backbone()
    settings = training.settings
    for number, one in enumerate(settings.species):
        if not training.labelled.count(number):
            raise InputError(
                f"labels.train has no click of {one.name} in the training tomograms: objective few_shot needs at least one, better ten"
            )
    training = replace(training, settings=replace(settings, species=with_estimates(training, progress)))
    training = replace(training, labelled=_thinned(training, progress))
    labelled = training.labelled.clicked
    progress.say(
        f"few_shot on {', '.join(labelled.names)}: level {training.level} ({training.level_spacing:g} A per voxel), {labelled.total} clicks, "
        f"pretrained features of {backbone.features().channels[0]} channels"
    )
    eyes = _Eyes(training, backbone)
    backgrounds = eyes.backgrounds()
    found = [_fit_species(training, eyes, backgrounds, number) for number in range(len(settings.species))]
    for one, result in zip(settings.species, found, strict=True):
        progress.say(f"{one.name}: {_told(result)}")
    radii = training.radii_vox
    matched = MatchedSettings(
        support_vox=tuple(defaults.SUPPORT * radius for radius in radii),
        floor=defaults.MATCHED_FLOOR,
        weight=tuple(result.slope for result in found),
        intercept=tuple(result.intercept for result in found),
        smooth_vox=_smooth(training),
    )
    network = backbone.with_head(np.array([result.weights for result in found]), np.array([result.bias for result in found]))
    network = eyes.with_training_statistics(network)
    summary = TrainingSummary(
        best_epoch=1,
        expected_numbers=[[one.expected_in(name) for name in labelled.names] for one in training.settings.species],
        chosen_ways=[str(result.way) for result in found],
        evidence=[{str(way): round(cost, 4) for way, cost in zip(WAYS, result.costs, strict=False)} for result in found],
    )
    known = [min(result.costs) for result in found if result.costs]
    write_metrics(folder / METRICS_NAME, [{"epoch": 1.0, "criterion": -float(np.mean(known)) if known else 0.0}])
    save_model(folder, network, replace(described_by(training), matched=matched), summary, tuple(result.profile for result in found))


def _thinned(training: Training, progress: Progress) -> Labelled:
    """At most `MOST_CLICKS` clicks of each species, drawn from the seed."""
    labelled = training.labelled
    points = [list(own) for own in labelled.points]
    rng = np.random.default_rng([training.settings.train.seed, 6])
    for number, one in enumerate(training.settings.species):
        total = labelled.count(number)
        if total <= MOST_CLICKS:
            continue
        progress.say(f"{one.name}: the head learns from {MOST_CLICKS} of the {total} clicks, drawn from the seed")
        is_kept = np.zeros(total, dtype=bool)
        is_kept[rng.permutation(total)[:MOST_CLICKS]] = True
        first = 0
        for own in points:
            count = len(own[number])
            own[number] = own[number][is_kept[first : first + count]]
            first += count
    return Labelled(labelled.tomograms, points)


def _told(found: _Found) -> str:
    if not found.costs:
        return f"{found.way}; one click can't be left out, so nothing was compared"
    order = np.argsort(found.costs, kind="stable")[:3]
    best = ", ".join(f"{WAYS[i]} {found.costs[i]:.2f}" for i in order)
    return f"{found.way}, by the ranks of left-out clicks (0.7 or less: within the number expected; the best three: {best})"


def _smooth(training: Training) -> float:
    return defaults.MATCHED_SMOOTH * min(training.radii_vox)


class _Eyes:
    """The backbone in each clicked tomogram."""

    def __init__(self, training: Training, backbone: Backbone) -> None:
        self.training, self.backbone = training, backbone
        self.tomograms: list[Tomogram] = training.labelled.clicked.tomograms
        settings = training.settings
        self._device = resolve_device(settings.device)
        features = backbone.features()
        self._sampling = unet_sampling(features.stride)
        is_own = settings.network.batch_statistics == "tomogram"
        networks = [adapted(features, self._images(t), device=self._device) for t in self.tomograms] if is_own else []
        common = None if is_own else self.with_training_statistics(features)
        self._scorers = [
            UNetScorer(
                StreamedNetwork(common if common is not None else networks[i], device=self._device.type, precision="float32", threads=None)
            )
            for i in range(len(self.tomograms))
        ]

    def _images(self, tomogram: Tomogram) -> Iterator[torch.Tensor]:
        return self._sampling.images(tomogram.read_standardised, tomogram.shape)

    def with_training_statistics(self, network: ResidualUNet) -> ResidualUNet:
        """A copy with the batch-norm statistics of all clicked tomograms together, on the processor."""
        images = itertools.chain.from_iterable(self._images(tomogram) for tomogram in self.tomograms)
        return adapted(network, images, device=self._device).cpu()

    def see(self, number: int, box: Box) -> _Part:
        """Features of a box."""
        tomogram, scorer = self.tomograms[number], self._scorers[number]
        read = scorer.read_box(box, tomogram.shape)
        image = read_extended(tomogram.read_standardised, read, tomogram.shape)
        return _Part(number, box, scorer.logits(image, read, box, tomogram.shape).astype(np.float16))

    def backgrounds(self) -> list[_Part]:
        """A box of each tomogram."""
        rng = np.random.default_rng([self.training.settings.train.seed, 3])
        each = BACKGROUND_VOX // len(self.tomograms)
        return [self.see(number, box_within(tomogram, each, rng)) for number, tomogram in enumerate(self.tomograms)]


def _fit_species(training: Training, eyes: _Eyes, backgrounds: list[_Part], number: int) -> _Found:
    radius = training.radii_vox[number]
    clicks = _see_clicks(training, eyes, number, radius)
    unclicked = _unclicked(training, eyes.backbone, backgrounds, radius)
    profiles = _profiles(training, number, radius)
    judge = _Judge(training, eyes, backgrounds, clicks, unclicked, profiles, radius, number)
    costs = judge.costs()
    way = WAYS[chosen(costs)] if costs else WAYS[0]
    return judge.final(way, costs)


def _see_clicks(training: Training, eyes: _Eyes, number: int, radius: float) -> _Clicks:
    total = training.labelled.clicked.count(number)
    judged = np.sort(np.random.default_rng([training.settings.train.seed, 5]).permutation(total)[:MOST_JUDGED])
    points: list[np.ndarray] = []
    parts: list[_Part] = []
    for index, some in enumerate(training.labelled.clicked.points):
        shape = eyes.tomograms[index].shape
        for point in some[number]:
            half = math.ceil((_AROUND if len(points) in judged else SHIFT) * radius) + 1
            middle = [min(max(math.floor(p + 0.5), 0), n - 1) for p, n in zip(point, shape, strict=True)]
            box = Box(triple([m - half for m in middle]), triple([m + half + 1 for m in middle])).clipped(Box.whole(shape))
            points.append(point)
            parts.append(eyes.see(index, box))
    return _Clicks(points, parts, np.random.default_rng([training.settings.train.seed, 7]).permutation(judged))


def _unclicked(training: Training, backbone: Backbone, backgrounds: list[_Part], radius: float) -> Unclicked:
    from scipy import ndimage

    rng = np.random.default_rng([training.settings.train.seed, 4])
    weights, biases = backbone.anything
    peaks, voxels = [], []
    for part in backgrounds:
        maps = _linear(part.features, weights) + biases[:, None, None, None].astype(np.float32)
        index, values = peaks_of(ndimage.gaussian_filter(maps.max(axis=0), _BLUR), radius=radius)
        most = math.ceil(_CROWDED * part.box.size / (4 / 3 * math.pi * radius**3))
        peaks.append(_at(part.features, index[np.argsort(-values, kind="stable")[:most]]))
        drawn = rng.integers(0, part.box.shape, size=(_RANDOM_VOXELS // len(backgrounds), 3))
        voxels.append(_at(part.features, drawn))
    return unclicked_of(np.concatenate(peaks), np.concatenate(voxels))


def _profiles(training: Training, number: int, radius: float) -> _Profiles:
    labelled = training.labelled.clicked
    return _Profiles(
        *compared_profiles(
            [tomogram.shape for tomogram in labelled.tomograms],
            [padded_reader(tomogram) for tomogram in labelled.tomograms],
            [points[number] for points in labelled.points],
            radius=radius,
            support=defaults.SUPPORT * radius,
            floor=defaults.NORMALISATION_FLOOR,
            seed=training.settings.train.seed,
        )
    )


class _Judge:
    """Makes scores from some of a species' clicks, and ranks the others by them."""

    def __init__(
        self,
        training: Training,
        eyes: _Eyes,
        backgrounds: list[_Part],
        clicks: _Clicks,
        unclicked: Unclicked,
        profiles: _Profiles,
        radius: float,
        number: int,
    ) -> None:
        self._training, self._eyes, self._backgrounds, self._clicks = training, eyes, backgrounds, clicks
        self._unclicked, self._profiles, self._radius = unclicked, profiles, radius
        self._support = defaults.SUPPORT * radius
        measured = [part.box.size / math.prod(eyes.tomograms[part.tomogram].shape) for part in backgrounds]
        self._share = float(np.mean(measured))  # of the volumes
        species = training.settings.species[number]
        points = training.labelled.clicked.points
        self._expected = [
            float(species.expected_in(tomogram.name) or defaults.EXPECTED_PER_CLICK * len(points[index][number]))
            for index, tomogram in enumerate(eyes.tomograms)
        ]
        steps, self._middle = steps_within(radius)
        self._around = np.array(
            [_at(part.features, np.rint(point - part.box.start) + steps) for point, part in zip(clicks.points, clicks.parts, strict=True)]
        )

    def costs(self) -> list[float]:
        """Of each way; none where one click alone is given."""
        total = len(self._clicks.points)
        judged = self._clicks.judged
        ranks: list[list[float]] = [[] for _ in WAYS]
        for fold in folds_of(len(judged)):
            left_out = judged[fold]
            self._rank(left_out, np.setdiff1d(np.arange(total), left_out), ranks)
        expected = sum(self._expected)
        return [cost_of(own, expected) for own in ranks if own]

    def _rank(self, left_out: np.ndarray, kept: np.ndarray, ranks: list[list[float]]) -> None:
        parts = [*self._backgrounds, *(self._clicks.parts[i] for i in left_out)]
        count = len(self._backgrounds)
        correlations = {
            is_telling: _in_deviations(list(map(self._filter(self._profile(kept, is_telling)), parts)), count)
            for is_telling in (True, False)
        }
        heads: dict[float, list[np.ndarray]] = {}
        for shrinkage in {way.shrinkage for way in WAYS if way.shrinkage is not None}:
            weights, _ = self._head(kept, shrinkage)
            heads[shrinkage] = _in_deviations([self._averaged(part, weights) for part in parts], count)
        for way, own in zip(WAYS, ranks, strict=True):
            totals = [np.float32(way.filter) * correlation for correlation in correlations[way.is_telling]]
            if way.shrinkage is not None:
                totals = [total + logits for total, logits in zip(totals, heads[way.shrinkage], strict=True)]
            others = np.sort(np.concatenate([peaks_of(total, radius=self._radius)[1] for total in totals[:count]]))
            for i, total in zip(left_out, totals[count:], strict=True):
                click = self._clicks.points[i] - self._clicks.parts[i].box.start
                # ranks in all clicked tomograms together
                own.append(rank_of(total, click, others, radius=self._radius) / self._share)

    def final(self, way: Way, costs: list[float]) -> _Found:
        """The way's parts, from all clicks."""
        everything = np.arange(len(self._clicks.points))
        profile = self._profile(everything, way.is_telling)
        weights, border = self._head(everything, 1.0 if way.shrinkage is None else way.shrinkage)
        backbone = self._eyes.backbone
        weights, border = backbone.scale * weights, backbone.scale * border
        filtering = self._filter(profile)
        correlations = [filtering(part) for part in self._backgrounds]
        logits = [self._averaged(part, weights) for part in self._backgrounds]
        deviation = _deviation(logits)
        slope = way.filter * deviation / _deviation(correlations)
        if way.shrinkage is None:
            weights, border = np.zeros_like(weights), 0.0
            logits = [np.zeros_like(one) for one in logits]
        totals = [own + np.float32(slope) * c for own, c in zip(logits, correlations, strict=True)]
        level = self._level(totals)
        return _Found(way, costs, weights, -border, profile, float(slope), border - level)

    def _level(self, totals: list[np.ndarray]) -> float:
        """The score of the peak whose rank is the number expected in the background boxes."""
        scores, wanted = [np.empty(0)], 0.0
        for part, total in zip(self._backgrounds, totals, strict=True):
            share = part.box.size / math.prod(self._eyes.tomograms[part.tomogram].shape)
            expected = share * self._expected[part.tomogram]
            wanted += expected
            most = Best(max(1, math.ceil(3 * expected)))
            picks = pick_array(total, radius=self._radius, how_many=most, memory=self._training.settings.memory)
            scores.append(picks.score)
        ordered = np.sort(np.concatenate(scores))[::-1]
        return float(ordered[min(len(ordered), max(1, round(wanted))) - 1]) if len(ordered) else 0.0

    def _head(self, kept: np.ndarray, shrinkage: float) -> tuple[np.ndarray, float]:
        return fitted(self._around[kept], self._middle, self._unclicked, shrinkage=shrinkage, own_share=self._eyes.backbone.own_share)

    def _profile(self, kept: np.ndarray, is_telling: bool) -> np.ndarray:
        own = self._profiles.clicks[kept]
        if not is_telling:
            return np.asarray(own.mean(axis=0))
        return telling_profile(own, self._profiles.peaks, support=self._support)

    def _averaged(self, part: _Part, weights: np.ndarray) -> np.ndarray:
        logits: np.ndarray = _linear(part.features, weights[None])[0]
        smooth = _smooth(self._training)
        if smooth < 1:
            return logits
        whole = Box.whole(part.box.shape)
        return np.asarray(ball_mean(logits, at=whole, wanted=whole, shape=part.box.shape, radius=smooth), dtype=np.float32)

    def _filter(self, profile: np.ndarray) -> Callable[[_Part], np.ndarray]:
        scorer = CorrelationScorer([profile_target(profile, self._support)], floor=defaults.MATCHED_FLOOR, threads=None, piece=PIECE_VOX)

        def correlation(part: _Part) -> np.ndarray:
            tomogram = self._eyes.tomograms[part.tomogram]
            read = scorer.read_box(part.box, tomogram.shape)
            values: np.ndarray = scorer.correlations(tomogram.read_standardised(read), read, part.box, tomogram.shape)[0]
            return values

        return correlation


def _linear(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Maps (s, z, y, x) of weights (s, c), plane by plane: features are float16 and many."""
    result = np.empty((len(weights), *features.shape[1:]), dtype=np.float32)
    for z in range(features.shape[1]):
        result[:, z] = np.tensordot(weights.astype(np.float32), features[:, z].astype(np.float32), axes=1)
    return result


def _at(features: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Features (n, c) at voxels (n, 3), the nearest inside."""
    index = np.clip(np.asarray(index).astype(np.int64), 0, np.array(features.shape[1:]) - 1)
    return np.asarray(features[:, index[:, 0], index[:, 1], index[:, 2]].T, dtype=np.float64)


def _deviation(parts: Sequence[np.ndarray]) -> float:
    return max(float(np.std(np.concatenate([part.ravel() for part in parts]), dtype=np.float64)), 1e-6)


def _in_deviations(maps: list[np.ndarray], measured: int) -> list[np.ndarray]:
    """Maps over the standard deviation of the first ones."""
    deviation = np.float32(_deviation(maps[:measured]))
    return [one / deviation for one in maps]
