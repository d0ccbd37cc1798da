"""Compute the features and profiles of clicks and background, and make a judge of ways of scoring for each species.

1. In each clicked tomogram, measure the backbone's batch-norm statistics, then compute once the features of a background box, at a place drawn from
   the seed, and of a small box around each click.
2. For each species, sample unclicked places: peaks of particles of any kind (`backbone.anything`) and random voxels in the background boxes, and the
   places that a person rejected, each of which has more weight than another place (`head.rejected_share`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tomostream import defaults
from tomostream.geometry import Box, triple
from tomostream.progress import Progress
from tomostream.strategies.matched_filter.discriminant import compared_profiles
from tomostream.strategies.matched_filter.kernels import padded_reader
from tomostream.strategies.matched_filter.profile import radial_profile, subtomogram
from tomostream.strategies.sample_boxes import AROUND, box_around
from tomostream.strategies.training_set import Training
from tomostream.strategies.unet.pretrained.backbone import Backbone
from tomostream.strategies.unet.pretrained.evidence import peaks_of
from tomostream.strategies.unet.pretrained.head import SHIFT, Unclicked, rejected_share, unclicked_of
from tomostream.strategies.unet.pretrained.judging import Judge
from tomostream.strategies.unet.pretrained.parts import Clicks, Part, Profiles, features_at, linear
from tomostream.strategies.unet.pretrained.seeing import Eyes
from tomostream.strategies.unet.pretrained.settings import CHANNELS

MOST_JUDGED = 30  # most clicks of a species that are left out in turn
MOST_CLICKS = 100  # most clicks of a species that are used: more of them add little, and each takes time
_RANDOM_VOXELS = 2000  # random voxels in all background boxes together
_CROWDED = 0.5  # fraction of the background that balls around the peaks of any kind would fill, at most
_BLUR = 0.7  # standard deviation of the smoothing of the map whose peaks are particles of any kind, in voxels


def judges_of(training: Training, backbone: Backbone | None) -> list[Judge]:
    """Return a judge for each species.

    Parameters
    ----------
    training
        Training with at most `MOST_CLICKS` clicks per species; see `thinned`.
    backbone
        The pretrained backbone; None: the judges know filters only.
    """
    eyes = Eyes(training, backbone)
    backgrounds = eyes.backgrounds()
    return [_judge(training, eyes, backgrounds, number) for number in range(len(training.settings.species))]


def _judge(training: Training, eyes: Eyes, backgrounds: list[Part], number: int) -> Judge:
    radius = training.radii_vox[number]
    clicks = _see_clicks(training, eyes, number, radius)
    unclicked = None if eyes.backbone is None else _unclicked(training, eyes, backgrounds, number, radius)
    return Judge(training, eyes, backgrounds, clicks, unclicked, _profiles(training, number, radius), radius)


def thinned(training: Training, progress: Progress) -> Training:
    """Return the training with at most `MOST_CLICKS` clicks of each species, drawn at random from the seed; log where clicks were dropped."""
    labelled = training.labelled
    points = [list(own) for own in labelled.points]
    rng = np.random.default_rng([training.settings.train.seed, 6])
    for number, one in enumerate(training.settings.species):
        total = labelled.count(number)
        if total <= MOST_CLICKS:
            continue
        progress.say(f"{one.name}: filters and heads learn from {MOST_CLICKS} of the {total} clicks, drawn at random from the seed")
        is_kept = np.zeros(total, dtype=bool)
        is_kept[rng.permutation(total)[:MOST_CLICKS]] = True
        first = 0
        for own in points:
            count = len(own[number])
            own[number] = own[number][is_kept[first : first + count]]
            first += count
    return replace(training, labelled=replace(labelled, points=points))


def _see_clicks(training: Training, eyes: Eyes, number: int, radius: float) -> Clicks:
    """Compute the features around the clicks of a species, and draw from the seed which of them are left out in turn."""
    total = training.labelled.clicked.count(number)
    judged = np.sort(np.random.default_rng([training.settings.train.seed, 5]).permutation(total)[:MOST_JUDGED])
    points: list[np.ndarray] = []
    parts: list[Part] = []
    for index, some in enumerate(training.labelled.clicked.points):
        shape = eyes.tomograms[index].shape
        for point in some[number]:
            half = (AROUND if len(points) in judged else SHIFT) * radius
            points.append(point)
            parts.append(eyes.see(index, box_around(point, half, shape)))
    return Clicks(points, parts, np.random.default_rng([training.settings.train.seed, 7]).permutation(judged))


def _unclicked(training: Training, eyes: Eyes, backgrounds: list[Part], number: int, radius: float) -> Unclicked:
    """Compute the feature statistics of unclicked places: peaks of any kind, random voxels, and the species' rejected places."""
    from scipy import ndimage

    rng = np.random.default_rng([training.settings.train.seed, 4])
    if eyes.backbone is None:
        raise TypeError("there are no features without a backbone")
    weights, biases = eyes.backbone.anything
    peaks, voxels = [], []
    for part in backgrounds:
        maps = linear(part.features, weights) + biases[:, None, None, None].astype(np.float32)
        index, values = peaks_of(ndimage.gaussian_filter(maps.max(axis=0), _BLUR), radius=radius)
        most = math.ceil(_CROWDED * part.box.size / (4 / 3 * math.pi * radius**3))
        peaks.append(features_at(part.features, index[np.argsort(-values, kind="stable")[:most]]))
        drawn = rng.integers(0, part.box.shape, size=(_RANDOM_VOXELS // len(backgrounds), 3))
        voxels.append(features_at(part.features, drawn))
    return unclicked_of(np.concatenate(peaks), np.concatenate(voxels), _at_rejected(training, eyes, number))


def _at_rejected(training: Training, eyes: Eyes, number: int) -> np.ndarray:
    """Return the features (n, c) at the rejected places."""
    rows: list[np.ndarray] = []
    for index, places in enumerate(training.labelled.clicked.rejected_of(number)):
        shape = eyes.tomograms[index].shape
        for point in places:
            middle = triple([min(max(math.floor(p + 0.5), 0), n - 1) for p, n in zip(point, shape, strict=True)])
            seen = eyes.see(index, Box(middle, triple([m + 1 for m in middle])))
            rows.append(features_at(seen.features, np.zeros((1, 3))))
    return np.concatenate(rows) if rows else np.empty((0, CHANNELS[0]))


def _profiles(training: Training, number: int, radius: float) -> Profiles:
    """Compute the radial profiles of the clicks and of other peaks; rejected places are repeated among these to give them `rejected_share`."""
    labelled = training.labelled.clicked
    support = defaults.SUPPORT * radius
    readers = [padded_reader(tomogram) for tomogram in labelled.tomograms]
    clicks, peaks = compared_profiles(
        [tomogram.shape for tomogram in labelled.tomograms],
        readers,
        [points[number] for points in labelled.points],
        radius=radius,
        support=support,
        floor=defaults.NORMALISATION_FLOOR,
        seed=training.settings.train.seed,
    )
    half = math.floor(support) + 1
    rejected = [
        radial_profile(subtomogram(read, point, half))
        for read, places in zip(readers, labelled.rejected_of(number), strict=True)
        for point in places
    ]
    if not rejected:
        return Profiles(clicks, peaks)
    share = rejected_share(len(rejected))
    times = max(1, round(share / (1 - share) * len(peaks) / len(rejected)))
    return Profiles(clicks, np.concatenate([peaks, *[np.array(rejected)] * times]))
