"""Train `sphere`: choose a shape for each species, and set its scale on the clicks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tomostream import defaults
from tomostream.geometry import Box, Triple, triple
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.progress import Progress
from tomostream.strategies.matched_filter.correlation import CorrelationScorer, Target
from tomostream.strategies.matched_filter.kernels import profile_target
from tomostream.strategies.matched_filter.profile import SHIFT
from tomostream.strategies.matched_filter.training import Made, average_settings, train_correlation
from tomostream.strategies.model_folder import TrainingSummary, pack_arrays, write_folder
from tomostream.strategies.sphere.shapes import SHAPES, Trial, chosen, trial_of
from tomostream.strategies.training_set import Labelled, Training
from tomostream.tomogram import Tomogram

_BOXES = 12  # random boxes of all tomograms together
_EDGE = 64  # edge of a box, voxels
_APART = 0.8  # smallest distance between peaks, radii
_CROWDED = 0.4  # number of peaks per box: balls of the particle's radius around them would fill this fraction of it
_MEMORY = 200_000_000  # budget of picking in a box, bytes; far more than it takes


def train_sphere(training: Training, folder: Path, progress: Progress) -> None:
    """Choose the shapes and write the model folder.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    scales, arrays = train_correlation(
        "sphere", training, folder, progress, lambda number, radius: _made(training, number, radius, progress)
    )
    write_folder(folder, "average", pack_arrays(arrays), average_settings(training, scales), TrainingSummary(best_epoch=1))


def _made(training: Training, number: int, radius: float, progress: Progress) -> Made:
    """Choose the shape of species `number`, log it, and return its profile and kernel; radius in voxels."""
    support = defaults.SUPPORT * radius
    length = math.floor(support) + 2
    profiles = [shape.profile(radius, length) for shape in SHAPES]
    labelled, seed = training.labelled.clicked, training.settings.train.seed
    shape = chosen([target_trial(profile_target(profile, support), labelled, number, radius=radius, seed=seed) for profile in profiles])
    profile = profiles[SHAPES.index(shape)]
    progress.say(f"{training.settings.species[number].name}: {shape} of radius {radius:.1f} voxels")
    return profile_target(profile, support), profile


def target_trial(target: Target, labelled: Labelled, number: int, *, radius: float, seed: int) -> Trial:
    """Judge a target by the clicks of a species; see `shapes`.

    Parameters
    ----------
    target
        Kernel of the shape.
    labelled
        The clicked tomograms.
    number
        Index of the species.
    radius
        Radius of the particle, in voxels.
    seed
        Seed of the random boxes.
    """
    rng = np.random.default_rng(seed)
    scorer = CorrelationScorer([target], floor=defaults.NORMALISATION_FLOOR, threads=None)
    clicks: list[float] = []
    peaks: list[np.ndarray] = [np.empty(0)]
    for tomogram, points in zip(labelled.tomograms, labelled.points, strict=True):
        reach = max(1, round(SHIFT * radius))
        for point in points[number]:
            centre = triple([round(float(p)) for p in point])
            near = Box(centre, triple([c + 1 for c in centre])).expanded(reach).clipped(Box.whole(tomogram.shape))
            clicks.append(float(_correlations(scorer, tomogram, near).max()))
        for box in _boxes(tomogram.shape, -(-_BOXES // len(labelled.tomograms)), rng):
            count = max(1, round(_CROWDED * box.size / (4 / 3 * math.pi * radius**3)))
            scores = _correlations(scorer, tomogram, box)
            peaks.append(pick_array(scores, radius=_APART * radius, how_many=Best(count), memory=_MEMORY).score)
    return trial_of(np.array(clicks), np.concatenate(peaks))


def _boxes(shape: Triple, most: int, rng: np.random.Generator) -> list[Box]:
    edges = [min(_EDGE, n) for n in shape]
    wanted = min(most, math.ceil(math.prod(shape) / math.prod(edges)))
    starts = [[int(rng.integers(0, n - e + 1)) for n, e in zip(shape, edges, strict=True)] for _ in range(wanted)]
    return [Box(triple(start), triple([a + e for a, e in zip(start, edges, strict=True)])) for start in starts]


def _correlations(scorer: CorrelationScorer, tomogram: Tomogram, needed: Box) -> np.ndarray:
    read = scorer.read_box(needed, tomogram.shape)
    found: np.ndarray = scorer.correlations(tomogram.read_standardised(read), read, needed, tomogram.shape)[0]
    return found
