"""Train `average` and `template`: make the kernels, then set their scale on the clicks.

Training takes no steps, so there is nothing to resume.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from tomostream import defaults
from tomostream.learn.fit import write_metrics
from tomostream.learn.training_files import METRICS_NAME
from tomostream.progress import Progress
from tomostream.strategies.click_recording import with_clicks
from tomostream.strategies.matched_filter.correlation import Target
from tomostream.strategies.matched_filter.density import Wedge, prepare_density
from tomostream.strategies.matched_filter.discriminant import learnt_profile
from tomostream.strategies.matched_filter.kernels import density_target, padded_reader, profile_target, rotated_kernels, tensor_target
from tomostream.strategies.matched_filter.model import AverageModel, CorrelationSettings, TemplateSettings, tensor_name
from tomostream.strategies.matched_filter.rotations import rotation_set
from tomostream.strategies.matched_filter.scale import Scale, measure_scales
from tomostream.strategies.matched_filter.settings import Template
from tomostream.strategies.matched_filter.tensorial import tensor_kernels
from tomostream.strategies.model_folder import TrainingSummary, pack_arrays, write_folder
from tomostream.strategies.trained_settings import settings_from
from tomostream.strategies.training_set import Labelled, Training

Made = tuple[Target, np.ndarray]  # kernels, and the array from which a loaded model makes them again


def train_average(training: Training, folder: Path, progress: Progress) -> None:
    """Learn the radial profile of each species from its clicks, and write the model folder.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    train_profiles("average", training, folder, progress, lambda number, radius: _profile(training, number, radius, progress))


def train_profiles(strategy: str, training: Training, folder: Path, progress: Progress, make: Callable[[int, float], Made]) -> None:
    """Train a strategy that correlates with one radial profile per species, and write the model folder.

    Parameters
    ----------
    make
        Returns the profile of species `number`, given its radius in voxels.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    scales, arrays = train_correlation(strategy, training, folder, progress, make)
    settings, summary = average_settings(training, scales), TrainingSummary(best_epoch=1)
    summary = with_clicks(summary, AverageModel(settings, summary, folder, arrays), training, progress)
    write_folder(folder, "average", pack_arrays(arrays), settings, summary)


def train_template(training: Training, folder: Path, progress: Progress) -> None:
    """Prepare the density of each species, set its scale, and write the model folder.

    Raises
    ------
    TomostreamError
        If a tomogram or density can't be read.
    """
    tensors: dict[str, np.ndarray] = {}

    def make(number: int, radius: float) -> Made:
        density = prepared_density(training, number, radius)
        target = _template_target(training, density, defaults.SUPPORT * radius)
        if target.mixing is not None:
            tensors[tensor_name(number)] = np.stack(list(target.kernels))
        return target, density

    scales, arrays = train_correlation("template", training, folder, progress, make)
    arrays |= tensors
    # the heights of the clicks are not measured: it would mean scoring their tomograms, which takes long with many orientations
    write_folder(folder, "template", pack_arrays(arrays), template_settings(training, scales), TrainingSummary(best_epoch=1))


def train_correlation(
    name: str, training: Training, folder: Path, progress: Progress, make: Callable[[int, float], Made]
) -> tuple[list[Scale], dict[str, np.ndarray]]:
    """Make the kernels of each species and set their scales on the clicks; write `metrics.csv` and log the correlations.

    Parameters
    ----------
    name
        Name of the strategy, for the log.
    training, folder, progress
        See `strategies.protocol.Strategy.train`.
    make
        Function that makes the kernels of a species, given its index and its radius in voxels.

    Returns
    -------
    scales : list of Scale
        One per species.
    arrays : dict
        The array from which each species' kernels are made, by the index of the species.
    """
    labelled, settings, radii = training.labelled, training.settings, training.radii_vox
    progress.say(
        f"{name} of {', '.join(labelled.names)}: level {training.level} ({training.level_spacing:g} A per voxel), {labelled.total} labels"
    )
    made = [make(number, radius) for number, radius in enumerate(radii)]
    targets = [target for target, _ in made]

    def scales_on(part: Labelled) -> list[Scale]:
        floor, seed = defaults.NORMALISATION_FLOOR, settings.train.seed
        return measure_scales(targets, part.tomograms, part.points, radii, floor=floor, seed=seed)

    scales = scales_on(labelled)
    judged = scales if training.validation is None else scales_on(training.validation)
    for one, scale in zip(settings.species, scales, strict=True):
        if scale.clicks <= scale.background:
            progress.warn(
                f"{one.name}: the clicks do not correlate better ({scale.clicks:.3f}) than the background ({scale.background:.3f}, 95th percentile); "
                "check the clicks and the radius"
            )
    criterion = float(np.mean([scale.clicks - scale.background for scale in judged]))
    write_metrics(folder / METRICS_NAME, [{"epoch": 1.0, "criterion": criterion}])
    progress.say(
        f"correlation of the clicks {', '.join(f'{s.clicks:.3f}' for s in scales)}, background {', '.join(f'{s.background:.3f}' for s in scales)}"
    )
    return scales, {str(number): array for number, (_, array) in enumerate(made)}


def average_settings(training: Training, scales: list[Scale]) -> CorrelationSettings:
    """Return the settings of the model that a training of `average` produces."""
    return settings_from(CorrelationSettings, training, **_common(training, scales))


def template_settings(training: Training, scales: list[Scale]) -> TemplateSettings:
    """Return the settings of the model that a training of `template` produces."""
    given = training.settings.section(Template)
    own = {"angle_step": given.angle_step, "tilt_range": given.tilt_range, "tilt_axis": given.tilt_axis, "search": given.search}
    return settings_from(TemplateSettings, training, **_common(training, scales), **own)


def _common(training: Training, scales: list[Scale]) -> dict[str, Any]:
    return {
        "support_vox": tuple(defaults.SUPPORT * radius for radius in training.radii_vox),
        "floor": defaults.NORMALISATION_FLOOR,
        "scales": tuple(scales),
    }


def _profile(training: Training, number: int, radius: float, progress: Progress) -> Made:
    """Learn the radial profile of species `number` (`discriminant.learnt_profile`), and log how; radius in voxels."""
    support, labelled = defaults.SUPPORT * radius, training.labelled
    learnt = learnt_profile(
        [tomogram.shape for tomogram in labelled.tomograms],
        [padded_reader(tomogram) for tomogram in labelled.tomograms],
        [points[number] for points in labelled.points],
        radius=radius,
        support=support,
        floor=defaults.NORMALISATION_FLOOR,
        seed=training.settings.train.seed,
    )
    progress.say(f"{training.settings.species[number].name}: {learnt}")
    return profile_target(learnt.values, support), learnt.values


def prepared_density(training: Training, number: int, radius: float) -> Float32[np.ndarray, "n n n"]:
    """Return the density of species `number`, resampled for the level that is read; radius in voxels.

    Raises
    ------
    InputError
        If the density can't be read.
    """
    support, given = defaults.SUPPORT * radius, training.settings.section(Template)
    path = given.density_of(training.settings.species[number].name)
    if path is None:
        raise TypeError("each species needs a density; TemplateStrategy.check refuses settings without one")
    spacing = training.level_spacing
    low_pass = None if given.low_pass is None else given.low_pass.in_angstrom(spacing)
    return prepare_density(path, spacing=spacing, half=int(np.floor(support)), low_pass=low_pass)


def _template_target(training: Training, density: np.ndarray, support: float) -> Target:
    """Return the kernels of a prepared density, as the section `template` asks for them; support in voxels."""
    given = training.settings.section(Template)
    wedge = Wedge(*given.tilt_range, axis=given.tilt_axis)
    if given.search == "tensor":
        kernels = rotated_kernels(density, support, angle_step=given.angle_step, wedge=wedge)
        return tensor_target(tensor_kernels(kernels, rotation_set(given.angle_step)), support)
    return density_target(density, support, angle_step=given.angle_step, wedge=wedge)
