"""How is a strategy that is not the U-Net trained?  From the same clicks, into the same kind of model folder.

`average`: the clicked particles' radial profile, and what sets it apart from other peaks.  `template`: the given density, resampled.  Both then set the scale of their logits on the
clicks.  Nothing is iterated, so there is nothing to resume.  `deepetpicker` and `slices2d` are networks, trained step by
step (`strategies.deepetpicker.training`, `strategies.slices2d.training`).
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tomostream import __version__, defaults
from tomostream.config import MATCHED_STRATEGIES
from tomostream.errors import InputError
from tomostream.stages.shared.fingerprints import file_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from tomostream.config import Configuration
    from tomostream.learn.processes import Processes
    from tomostream.progress import Progress
    from tomostream.stages.training.stage import Labelled, Work
    from tomostream.strategies.matched_filter.correlation import Target


def strategy_fingerprint(configuration: Configuration) -> dict[str, Any]:
    """What besides the configuration's other parts decides the model; nothing for the U-Net.

    Raises
    ------
    InputError
        If a density is not there.
    """
    if configuration.strategy not in MATCHED_STRATEGIES:
        return {}
    values: dict[str, Any] = {"network": configuration.network.level, "train": configuration.train.seed}
    if configuration.strategy == "template":
        densities = {s.name: configuration.template.density_of(s.name) for s in configuration.species}
        values["template"] = configuration.template.model_dump(mode="json") | {
            "density": {name: _density_sha256(path) for name, path in densities.items() if path is not None}
        }
    return values


def _density_sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise InputError(f"template.density {path} can't be read: {error.strerror or error}") from None


def fit_strategy(work: Work, folder: Path | None, progress: Progress, processes: Processes) -> None:
    """Train the configuration's strategy and write its model folder, which is None in all processes but the first.

    Raises
    ------
    TomostreamError
        If the strategy can't be trained from this.
    """
    if work.configuration.strategy == "deepetpicker":
        from tomostream.strategies.deepetpicker.training import fit_deepetpicker

        fit_deepetpicker(work, folder, progress, processes)
        return
    if work.configuration.strategy == "slices2d":
        from tomostream.strategies.slices2d.training import fit_slices2d

        fit_slices2d(work, folder, progress, processes)
        return
    if folder is not None:  # there are no steps to share: the first process does it
        _fit_matched(work, folder, progress)


def _fit_matched(work: Work, folder: Path, progress: Progress) -> None:
    from tomostream.learn.fit import METRICS_NAME, write_metrics
    from tomostream.strategies.matched_filter.model import measure_scales
    from tomostream.strategies.model_folder import StrategySettings, save_strategy_model

    configuration, labelled, checked, level, spacing = work.configuration, work.labelled, work.checked, work.level, work.spacing
    species = configuration.species
    radii = [s.radius.in_voxels(spacing) / 2**level for s in species]
    names = ", ".join(t.name for t in labelled.tomograms)
    labels = sum(labelled.count(i) for i in range(len(species)))
    progress.say(f"{configuration.strategy} of {names}: level {level} ({spacing * 2**level:g} A per voxel), {labels} labels")
    made = [_target(configuration, labelled, number, radius, spacing * 2**level, progress) for number, radius in enumerate(radii)]
    targets = [target for target, _ in made]
    floor = defaults.NORMALISATION_FLOOR

    def scales_on(part: Labelled) -> Any:
        return measure_scales(targets, part.tomograms, part.points, radii, floor=floor, seed=configuration.train.seed)

    scales = scales_on(labelled)
    judged = scales if checked is None else scales_on(checked)
    for one, scale in zip(species, scales, strict=True):
        if scale.clicks <= scale.background:
            progress.warn(
                f"{one.name}: the clicks correlate no better ({scale.clicks:.3f}) than the background ({scale.background:.3f}, 95th percentile); "
                "check the clicks and the radius"
            )
    options: dict[str, Any] = {
        "support_vox": [target.radius for target in targets],
        "floor": floor,
        "scales": [asdict(scale) for scale in scales],
    }
    if configuration.strategy == "template":
        given = configuration.template
        options |= {"angle_step": given.angle_step, "tilt_range": list(given.tilt_range), "tilt_axis": given.tilt_axis}
    settings = StrategySettings(
        species=tuple(s.name for s in species),
        radius_ang=tuple(s.radius.in_angstrom(spacing) for s in species),
        level=level,
        spacing=spacing,
        clip_sigma=defaults.CLIP_SIGMA,
        trained_on=tuple(t.name for t in labelled.tomograms),
        version=__version__,
        options=options,
    )
    criterion = float(np.mean([scale.clicks - scale.background for scale in judged]))
    write_metrics(folder / METRICS_NAME, [{"epoch": 1.0, "criterion": criterion}])
    arrays = {str(number): array for number, (_, array) in enumerate(made)}
    save_strategy_model(folder, configuration.strategy, arrays, settings, {"best_epoch": 1})
    progress.say(
        f"correlation of the clicks {', '.join(f'{s.clicks:.3f}' for s in scales)}, background {', '.join(f'{s.background:.3f}' for s in scales)}"
    )


def _target(
    configuration: Configuration, labelled: Labelled, number: int, radius: float, spacing: float, progress: Progress
) -> tuple[Target, np.ndarray]:
    """What one species' output looks for, and the array that says so on disk; radius in voxels, spacing of the level."""
    from tomostream.strategies.matched_filter.density import Wedge, prepare_density
    from tomostream.strategies.matched_filter.discriminant import learnt_profile
    from tomostream.strategies.matched_filter.model import density_target, padded_reader, profile_target

    support = defaults.SUPPORT * radius
    if configuration.strategy == "average":
        readers = [padded_reader(tomogram) for tomogram in labelled.tomograms]
        clicks = [points[number] for points in labelled.points]
        shapes = [tomogram.shape for tomogram in labelled.tomograms]
        learnt = learnt_profile(
            shapes, readers, clicks, radius=radius, support=support, floor=defaults.NORMALISATION_FLOOR, seed=configuration.train.seed
        )
        progress.say(f"{configuration.species[number].name}: {learnt}")
        return profile_target(learnt.values, support), learnt.values
    given = configuration.template
    path = given.density_of(configuration.species[number].name)
    if path is None:
        raise InputError(f"template.density is missing for {configuration.species[number].name}")
    low_pass = None if given.low_pass is None else given.low_pass.in_angstrom(spacing)
    density = prepare_density(path, spacing=spacing, half=math.floor(support), low_pass=low_pass)
    wedge = Wedge(*given.tilt_range, axis=given.tilt_axis)
    return density_target(density, support, angle_step=given.angle_step, wedge=wedge), density
