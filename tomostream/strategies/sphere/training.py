"""Train `sphere`: choose a shape for each species, and set its scale on the clicks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tomostream import defaults
from tomostream.progress import Progress
from tomostream.strategies.matched_filter.correlation import CorrelationScorer, Target
from tomostream.strategies.matched_filter.kernels import profile_target
from tomostream.strategies.matched_filter.sampled_correlation import PEAK_BOX_EDGE, correlation_of_click, correlations_in, peaks_of
from tomostream.strategies.matched_filter.training import Made, train_profiles
from tomostream.strategies.sample_boxes import random_cubes
from tomostream.strategies.sphere.shapes import SHAPES, Trial, chosen, trial_of
from tomostream.strategies.training_set import Labelled, Training

_BOXES = 12  # random boxes of all tomograms together


def train_sphere(training: Training, folder: Path, progress: Progress) -> None:
    """Choose the shapes and write the model folder.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    train_profiles("sphere", training, folder, progress, lambda number, radius: _made(training, number, radius, progress))


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
        read, shape = tomogram.read_standardised, tomogram.shape
        clicks += [correlation_of_click(point, radius, scorer, read, shape) for point in points[number]]
        boxes = random_cubes(shape, PEAK_BOX_EDGE, -(-_BOXES // len(labelled.tomograms)), rng)
        peaks += [peaks_of(correlations_in(box, scorer, read, shape), radius).score for box in boxes]
    return trial_of(np.array(clicks), np.concatenate(peaks))
