"""`train`: from a configuration and clicks to a model folder.

1. Find the tomograms that the clicks name; convert what is still MRC; measure the level that the network will read.
2. Read and check the clicks; from the expected numbers follow the class priors.
3. Stream crops, fit, validate on the validation clicks, keep the best epoch.
4. Write the model folder: weights, settings, the metrics of every epoch, the resolved configuration.

Under torchrun the first process does all of it, and sends the others what they need to take their part in the steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomostream import __version__, defaults
from tomostream.config import MATCHED_STRATEGIES, Configuration
from tomostream.errors import ExistsError, InputError
from tomostream.geometry import Box, Triple, triple
from tomostream.masks import mask_of_box
from tomostream.progress import Progress
from tomostream.project import Project, is_mrc, store_path
from tomostream.remote.places import Place, RemotePath, place
from tomostream.stages.conversion.stage import ConvertSettings, convert_many, measure
from tomostream.stages.shared.clicks import by_tomogram
from tomostream.stages.shared.fingerprints import write_text_atomically
from tomostream.stages.training.inputs import check_positions, open_inputs, read_inputs, training_fingerprint
from tomostream.stages.training.remote_folder import train_remotely
from tomostream.store.locks import exclusive
from tomostream.strategies.matched_filter.training import fit_strategy
from tomostream.strategies.training_memory import training_buffer
from tomostream.strategies.unet.expected_number import with_estimates
from tomostream.strategies.unet.fusion_fit import matched_filter
from tomostream.tomogram import Tomogram

if TYPE_CHECKING:
    from tomostream.learn.batch import Batch
    from tomostream.learn.processes import Processes
    from tomostream.stream.dataset import SubtomogramDataset

LOCK_NAME = ".lock"
VALIDATION_BATCHES = 4  # of labelled crops, for the validation loss


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labelled tomograms of one purpose, at the network's level.

    Parameters
    ----------
    tomograms
        With statistics attached.
    points
        Per tomogram and species: float64 (n, 3) positions z y x in voxels of that level.
    """

    tomograms: list[Tomogram]
    points: list[list[np.ndarray]]

    @property
    def clicked(self) -> Labelled:
        """Those that have a label."""
        has = [any(map(len, points)) for points in self.points]
        return Labelled(
            [t for t, is_clicked in zip(self.tomograms, has, strict=True) if is_clicked],
            [p for p, is_clicked in zip(self.points, has, strict=True) if is_clicked],
        )

    def count(self, species: int) -> int:
        """Number of labels of a species."""
        return sum(len(p[species]) for p in self.points)


@dataclass(frozen=True, slots=True)
class Work:
    """What a process needs to take part in training."""

    configuration: Configuration
    labelled: Labelled
    checked: Labelled | None
    level: int
    spacing: float
    fingerprint: dict[str, Any]


def train_model(configuration: Configuration, *, out: Place | None, overwrite: bool, progress: Progress) -> Place:
    """Train as the configuration says; returns the model folder.

    A finished model of the same configuration and data is left as it is; unfinished training goes on from its last checkpoint.  Started by
    torchrun, it trains together with the other processes.

    Raises
    ------
    TomostreamError
        If the configuration, the clicks or the tomograms don't fit together; before any training.
    """
    from tomostream.learn.processes import joined

    folder = model_folder(configuration, out)
    with joined(configuration.predict.device) as processes:

        def train_into(local: Path) -> None:
            _train_into(configuration, local, overwrite=overwrite, progress=progress, processes=processes)

        if not processes.is_first:
            _take_part(None, None, Progress(), processes)
        elif isinstance(folder, RemotePath):
            train_remotely(folder, train_into)
        else:
            train_into(folder)
    return folder


def model_folder(configuration: Configuration, out: Place | None) -> Place:
    """Where the model goes."""
    return place(out) if out is not None else Project(configuration.project).model


def is_trained(configuration: Configuration, folder: Place, *, processes: int) -> bool:
    """Whether the folder holds the finished model of this configuration and data; small files are read, nothing is computed.

    Raises
    ------
    TomostreamError
        If the configuration, the clicks or the tomograms don't fit together.
    """
    inputs = read_inputs(configuration)
    stores = [place(store_path(configuration, name, inputs.paths[name])) for name in inputs.needed if is_mrc(inputs.paths[name])]
    if not all((store / "zarr.json").is_file() for store in stores) or not (folder / "model.json").is_file():
        return False
    tomograms, level, _ = open_inputs(configuration, inputs)
    try:
        recorded: object = json.loads((folder / "training.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    return recorded == training_fingerprint(configuration, tomograms, level, processes)


def _train_into(configuration: Configuration, folder: Path, *, overwrite: bool, progress: Progress, processes: Processes) -> None:
    if configuration.strategy not in MATCHED_STRATEGIES:
        training_buffer(configuration)  # too small a budget is refused before anything is converted
    inputs = read_inputs(configuration)
    clicks, checks, species = inputs.clicks, inputs.checks, [s.name for s in configuration.species]
    if inputs.repeated:
        progress.warn(
            f"labels.validate: {inputs.repeated} of its {len(checks or [])} clicks are those of labels.train; the best epoch is better chosen by others"
        )
    check_positions(configuration, inputs)
    unconverted = [inputs.paths[name] for name in inputs.needed if is_mrc(inputs.paths[name])]
    if unconverted:
        settings = ConvertSettings(voxel_size=configuration.voxel_size)
        store_folder = Project(configuration.project).tomograms
        convert_many(unconverted, store_folder, settings, memory=configuration.memory_bytes, overwrite=False, progress=progress)
    tomograms, level, spacing = open_inputs(configuration, inputs)
    fingerprint = training_fingerprint(configuration, tomograms, level, processes.world)
    state = _state(folder, fingerprint)
    if state == "done":
        progress.say(f"model {folder} is already trained with these settings")
        _take_part(None, folder, progress, processes)
        return
    if state == "other" and not overwrite:
        raise ExistsError(f"model folder {folder} was made with other settings or data; use another folder, or --overwrite to replace it")

    points = by_tomogram(clicks, tomograms, species, "labels.train", progress)
    points |= {name: [np.empty((0, 3)) for _ in species] for name in inputs.others}
    labelled = _at_level(points, tomograms, level, configuration.memory_bytes)
    checked = (
        _at_level(by_tomogram(checks, tomograms, species, "labels.validate", progress), tomograms, level, configuration.memory_bytes)
        if checks is not None
        else None
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"model folder {folder} can't be made: {error.strerror or error}; choose another folder") from None
    with exclusive(folder / LOCK_NAME, f"model folder {folder}"):
        _prepare_folder(folder, fingerprint, configuration, is_new=state != "partial")
        _take_part(Work(configuration, labelled, checked, level, spacing, fingerprint), folder, progress, processes)


def _take_part(work: Work | None, folder: Path | None, progress: Progress, processes: Processes) -> None:
    """Train with the other processes, as the first one says: it gives the work (None: there is none to do) and the folder."""
    work = processes.from_first(lambda: work)
    if work is not None:
        fit_model = _fit if work.configuration.strategy == "unet" else fit_strategy
        fit_model(work, folder, progress, processes)


def _at_level(points: dict[str, list[np.ndarray]], tomograms: dict[str, Tomogram], level: int, memory: int) -> Labelled:
    chosen: list[Tomogram] = []
    for name in points:
        tomogram = tomograms[name].at_level(level)
        normalisation = measure(tomogram, memory=memory)
        if normalisation.is_constant:
            raise InputError(f"tomogram '{name}' is constant (mean {normalisation.mean:g}): there is nothing to learn from; leave it out")
        chosen.append(tomogram.with_normalisation(normalisation))
    return Labelled(chosen, [[t.to_level_positions(p) for p in points[t.name]] for t in chosen])


def _state(folder: Path, fingerprint: dict[str, Any]) -> str:
    """Tell whether the folder is absent, done, partial (both with this fingerprint) or other."""
    record = folder / "training.json"
    if not record.exists():
        return "other" if folder.exists() and any(path.name != LOCK_NAME for path in folder.iterdir()) else "absent"
    try:
        recorded: object = json.loads(record.read_text())
    except ValueError:
        recorded = None
    if recorded != fingerprint:
        return "other"
    return "done" if (folder / "model.json").exists() else "partial"


def _prepare_folder(folder: Path, fingerprint: dict[str, Any], configuration: Configuration, *, is_new: bool) -> None:
    if is_new:
        # what another training left would be mixed with this one's
        for name in ("model.safetensors", "model.json", "metrics.csv", "checkpoint.pt", "training.json"):
            (folder / name).unlink(missing_ok=True)
    write_text_atomically(folder / "training.json", json.dumps(fingerprint, indent=1))
    configuration.write(folder / "resolved.yaml")


def _priors(configuration: Configuration, labelled: Labelled, radii: list[float]) -> tuple[list[float], list[float] | None]:
    """Fractions of the training voxels in labels (observed) and in particles (expected; None if unknown), one a species.

    The expected fraction is number times volume of a ball (the paper's pi'; where balls overlap it counts voxels twice).
    """
    voxels = sum(math.prod(t.shape) for t in labelled.tomograms)
    shape = configuration.train.label_shape
    observed = [
        sum(_labelled_voxels(t.shape, points[i], radius, shape) for t, points in zip(labelled.tomograms, labelled.points, strict=True))
        / voxels
        for i, radius in enumerate(radii)
    ]
    if configuration.objective.prior is not None:
        return observed, [configuration.objective.prior] * len(radii)
    expected: list[float] = []
    for species, radius in zip(configuration.species, radii, strict=True):
        # a tomogram without clicks, of which the user says nothing, is taken to be as crowded as the others
        known = [(number, math.prod(t.shape)) for t in labelled.tomograms if (number := species.expected_in(t.name)) is not None]
        if any(
            species.expected_in(t.name) is None for t, own in zip(labelled.tomograms, labelled.points, strict=True) if any(map(len, own))
        ):
            return observed, None
        expected.append(sum(number for number, _ in known) * 4 / 3 * math.pi * radius**3 / sum(size for _, size in known))
    return observed, expected


def _labelled_voxels(shape: Triple, points: np.ndarray, radius: float, kind: str) -> int:
    """Count the voxels of the union of the labels, ball by ball: each counts those that no earlier point's ball holds."""
    total = 0
    for i, point in enumerate(points):
        reach = int(np.ceil(radius)) + 1
        centre = triple([round(float(c)) for c in point])
        box = Box(centre, triple([c + 1 for c in centre])).expanded(reach).clipped(Box.whole(shape))
        own = mask_of_box(box, points[i : i + 1], radius=radius, shape=kind, volume=shape).astype(bool)
        earlier = mask_of_box(box, points[:i], radius=radius, shape=kind, volume=shape).astype(bool)
        total += int(np.count_nonzero(own & ~earlier))
    return total


def _fit(work: Work, folder: Path | None, progress: Progress, processes: Processes) -> None:
    from tomostream.inference.batch_statistics import unet_sampling
    from tomostream.learn.fit import FitSettings, fit
    from tomostream.learn.objectives import make_objective
    from tomostream.learn.precision import resolve_device, resolve_precision
    from tomostream.strategies.unet.model import ModelSettings, save_model
    from tomostream.strategies.unet.network import ResidualUNet
    from tomostream.strategies.validation import plan_validation

    labelled, checked, level, spacing = work.labelled, work.checked, work.level, work.spacing
    train, given = work.configuration.train, work.configuration.objective
    radii = [s.radius.in_voxels(spacing) / 2**level for s in work.configuration.species]
    configuration = processes.from_first(lambda: with_estimates(work.configuration, labelled.clicked, radii, progress))
    label_radii = [(train.label_radius or s.radius).in_voxels(spacing) / 2**level for s in configuration.species]
    observed, expected = _priors(configuration, labelled, label_radii)
    objective = make_objective(
        given.name,
        weight=given.weight,
        order=given.order,
        labelled_fraction=observed,
        expected_fraction=expected,
        particle_voxels=[4 / 3 * math.pi * radius**3 for radius in label_radii],
    )
    for note in objective.notes:
        progress.warn(note)
    network = ResidualUNet(configuration.network.channels, len(configuration.species), seed=train.seed, prior=expected or observed)
    dataset = _dataset(configuration, labelled, label_radii, stride=network.stride, processes=processes)
    device = resolve_device(configuration.predict.device)
    precision = resolve_precision(train.precision, device)
    validation = plan_validation(
        configuration,
        checked if processes.is_first else None,
        # read once, and let go with its buffer
        list(_dataset(configuration, checked or labelled, label_radii, stride=network.stride, processes=None))
        if processes.is_first
        else [],
        spacing=spacing,
        level=level,
        objective=objective,
        precision=precision,
        sampling=unet_sampling(network.stride),
    )

    def batches(epoch: int) -> Iterator[Batch]:
        dataset.set_epoch(epoch)
        return iter(dataset)

    labels = sum(labelled.count(i) for i in range(len(configuration.species)))
    progress.say(
        f"training on {', '.join(t.name for t in labelled.tomograms)}: level {level} ({spacing * 2**level:g} A per voxel), {labels} labels, "
        f"objective {given.name}, {precision}{together(processes, train.batch)}"
    )
    with progress.track("train", train.steps) as bar:
        result = fit(
            network,
            batches=batches,
            objective=replace(objective, processes=processes),
            validate=validation.measure,
            recalibrate=lambda: dataset.uniform_images(defaults.RECALIBRATION_CROPS, seed=train.seed),
            settings=FitSettings(
                steps=train.steps,
                minutes=train.minutes,
                steps_per_epoch=train.steps_per_epoch,
                learning_rate=train.learning_rate,
                schedule=train.schedule,
                weight_decay=defaults.WEIGHT_DECAY,
                precision=precision,
                device=configuration.predict.device,
            ),
            folder=folder,
            fingerprint=work.fingerprint,
            report=bar.advance,
            processes=processes,
        )
    if folder is None:  # the first process writes the model
        return
    joined = matched_filter(configuration, network, labelled, radii, precision=precision)
    settings = ModelSettings(
        channels=tuple(configuration.network.channels),
        species=tuple(s.name for s in configuration.species),
        radius_ang=tuple(s.radius.in_angstrom(spacing) for s in configuration.species),
        level=level,
        spacing=spacing,
        clip_sigma=defaults.CLIP_SIGMA,
        label_shape=train.label_shape,
        objective={"name": given.name, "weight": given.weight, "order": given.order},
        precision=precision,
        trained_on=tuple(t.name for t in labelled.tomograms),
        version=__version__,
        matched=None if joined is None else joined.settings,
        batch_statistics=configuration.network.batch_statistics,
    )
    numbers = [[one.expected_in(t.name) for t in labelled.clicked.tomograms] for one in configuration.species]
    extra = {"expected_numbers": numbers, "labelled_fraction": observed, "expected_fraction": expected, "best_epoch": result.best_epoch}
    save_model(folder, network, settings, extra | recorded(processes), () if joined is None else joined.profiles)
    best = result.rows[result.best_epoch - 1]
    progress.say(f"best epoch {result.best_epoch} of {len(result.rows)}: criterion {best['criterion']:.3f}")


def together(processes: Processes, batch: int) -> str:
    """What a message says of several processes; nothing of one."""
    return "" if processes.world == 1 else f"; {processes.world} processes, {processes.world} x {batch} crops a step"


def recorded(processes: Processes) -> dict[str, int]:
    """What a model's record says of several processes; nothing of one."""
    return {} if processes.world == 1 else {"processes": processes.world}


def _dataset(
    configuration: Configuration, labelled: Labelled, radii: list[float], *, stride: int, processes: Processes | None
) -> SubtomogramDataset:
    """Crops to train on, the share of one of the processes; or, with None, those of the validation loss, all around labels."""
    from tomostream.stream.dataset import SubtomogramDataset

    train = configuration.train
    is_validation = processes is None
    return SubtomogramDataset(
        tomograms=labelled.tomograms,
        points=labelled.points,
        radius=radii,
        label_shape=train.label_shape,
        crop=train.crop,
        stride=stride,
        batch=train.batch,
        batches_per_epoch=VALIDATION_BATCHES if is_validation else train.steps_per_epoch,
        labelled_fraction=1.0 if is_validation else train.labelled_fraction,
        seed=train.seed,
        symmetry="none" if is_validation else train.symmetry,
        buffer_bytes=training_buffer(configuration),
        rank=0 if processes is None else processes.rank,
        world=1 if processes is None else processes.world,
    )
