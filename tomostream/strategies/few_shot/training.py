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

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.geometry import Box, triple
from tomostream.learn.fit import write_metrics
from tomostream.learn.training_files import METRICS_NAME
from tomostream.progress import Progress
from tomostream.strategies.few_shot.backbone import Backbone, shipped_backbone
from tomostream.strategies.few_shot.evidence import WAYS, chosen, cost_of, peaks_of
from tomostream.strategies.few_shot.head import SHIFT, Unclicked, unclicked_of
from tomostream.strategies.few_shot.judging import Judge
from tomostream.strategies.few_shot.parts import Clicks, Found, Part, Profiles, features_at, linear
from tomostream.strategies.few_shot.seeing import Eyes, smoothing_vox
from tomostream.strategies.matched_filter.discriminant import compared_profiles
from tomostream.strategies.matched_filter.kernels import padded_reader
from tomostream.strategies.model_folder import TrainingSummary
from tomostream.strategies.training_set import Labelled, Training
from tomostream.strategies.unet.expected_number import with_estimates
from tomostream.strategies.unet.fusion import MatchedSettings
from tomostream.strategies.unet.model import save_model
from tomostream.strategies.unet.training import described_by

MOST_JUDGED = 30  # clicks of a species that are left out in turn
MOST_CLICKS = 100  # of a species that the head learns from: more tell it little, and each costs a second
_AROUND = 2.2  # radii of a click's box on each side
_RANDOM_VOXELS = 2000
_CROWDED = 0.5  # peaks of anything: so many balls of the particle's radius would fill this share of the background
_BLUR = 0.7  # voxels, of what sees anything


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
    eyes = Eyes(training, backbone)
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
        smooth_vox=smoothing_vox(training),
    )
    network = backbone.with_head(np.array([result.weights for result in found]), np.array([result.bias for result in found]))
    network = eyes.with_training_statistics(network)
    summary = TrainingSummary(
        best_epoch=1,
        expected_numbers=[[one.expected_in(name) for name in labelled.names] for one in training.settings.species],
        chosen_ways=[str(result.way) for result in found],
        left_out_ranks=[[round(rank, 1) for rank in sorted(result.ranks)] for result in found],
        left_out_expected=[round(result.expected, 1) for result in found],
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


def _told(found: Found) -> str:
    if not found.costs:
        return f"{found.way}; one click can't be left out, so nothing was compared"
    order = np.argsort(found.costs, kind="stable")[:3]
    best = ", ".join(f"{WAYS[i]} {found.costs[i]:.2f}" for i in order)
    return f"{found.way}, by the ranks of left-out clicks (0.7 or less: within the number expected; the best three: {best})"


def _fit_species(training: Training, eyes: Eyes, backgrounds: list[Part], number: int) -> Found:
    radius = training.radii_vox[number]
    clicks = _see_clicks(training, eyes, number, radius)
    unclicked = _unclicked(training, eyes.backbone, backgrounds, radius)
    profiles = _profiles(training, number, radius)
    judge = Judge(training, eyes, backgrounds, clicks, unclicked, profiles, radius, number)
    ranks = judge.ranks()
    costs = [cost_of(own, judge.expected) for own in ranks if own]
    number = chosen(costs) if costs else 0
    return judge.final(WAYS[number], ranks[number], costs)


def _see_clicks(training: Training, eyes: Eyes, number: int, radius: float) -> Clicks:
    total = training.labelled.clicked.count(number)
    judged = np.sort(np.random.default_rng([training.settings.train.seed, 5]).permutation(total)[:MOST_JUDGED])
    points: list[np.ndarray] = []
    parts: list[Part] = []
    for index, some in enumerate(training.labelled.clicked.points):
        shape = eyes.tomograms[index].shape
        for point in some[number]:
            half = math.ceil((_AROUND if len(points) in judged else SHIFT) * radius) + 1
            middle = [min(max(math.floor(p + 0.5), 0), n - 1) for p, n in zip(point, shape, strict=True)]
            box = Box(triple([m - half for m in middle]), triple([m + half + 1 for m in middle])).clipped(Box.whole(shape))
            points.append(point)
            parts.append(eyes.see(index, box))
    return Clicks(points, parts, np.random.default_rng([training.settings.train.seed, 7]).permutation(judged))


def _unclicked(training: Training, backbone: Backbone, backgrounds: list[Part], radius: float) -> Unclicked:
    from scipy import ndimage

    rng = np.random.default_rng([training.settings.train.seed, 4])
    weights, biases = backbone.anything
    peaks, voxels = [], []
    for part in backgrounds:
        maps = linear(part.features, weights) + biases[:, None, None, None].astype(np.float32)
        index, values = peaks_of(ndimage.gaussian_filter(maps.max(axis=0), _BLUR), radius=radius)
        most = math.ceil(_CROWDED * part.box.size / (4 / 3 * math.pi * radius**3))
        peaks.append(features_at(part.features, index[np.argsort(-values, kind="stable")[:most]]))
        drawn = rng.integers(0, part.box.shape, size=(_RANDOM_VOXELS // len(backgrounds), 3))
        voxels.append(features_at(part.features, drawn))
    return unclicked_of(np.concatenate(peaks), np.concatenate(voxels))


def _profiles(training: Training, number: int, radius: float) -> Profiles:
    labelled = training.labelled.clicked
    return Profiles(
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
