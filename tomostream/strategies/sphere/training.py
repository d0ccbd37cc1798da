"""Train `sphere`: choose a shape for each species, and set its scale on the clicks."""

from __future__ import annotations

import math
from pathlib import Path

from tomostream import defaults
from tomostream.progress import Progress
from tomostream.strategies.matched_filter.kernels import profile_target
from tomostream.strategies.matched_filter.scale import measure_scales
from tomostream.strategies.matched_filter.training import Made, average_settings, train_correlation
from tomostream.strategies.model_folder import TrainingSummary, pack_arrays, write_folder
from tomostream.strategies.sphere.shapes import SHAPES, chosen
from tomostream.strategies.training_set import Training


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
    """The shape of a species as a profile; radius in voxels."""
    labelled, support = training.labelled.clicked, defaults.SUPPORT * radius
    length = math.floor(support) + 2
    scales = [
        measure_scales(
            [profile_target(shape.profile(radius, length), support)],
            labelled.tomograms,
            [[points[number]] for points in labelled.points],
            [radius],
            floor=defaults.NORMALISATION_FLOOR,
            seed=training.settings.train.seed,
        )[0]
        for shape in SHAPES
    ]
    shape = chosen(scales)
    profile = shape.profile(radius, length)
    progress.say(f"{training.settings.species[number].name}: {shape} of radius {radius:.1f} voxels")
    return profile_target(profile, support), profile
