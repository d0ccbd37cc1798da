"""What would `run` do?  The stages and tomograms, what is done already, the projected peak memory and the disk that results take.

Nothing is written.  A stage that can't be planned before an earlier one is done says so; a budget that would not suffice is refused here as
it would be by the stage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tomostream import defaults
from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES, conversion_bytes, libraries_bytes
from tomostream.config import Configuration
from tomostream.errors import InputError
from tomostream.geometry import Triple, triple
from tomostream.picking.planning import plan_blocks
from tomostream.project import Project, input_paths, is_mrc, store_path
from tomostream.remote.places import place
from tomostream.stages.training.inputs import reading_level
from tomostream.store.conversion import band_voxels_within
from tomostream.store.decompress import peek_header
from tomostream.store.pyramid import level_shape
from tomostream.store.specification import StoreLayout, StoreSpec
from tomostream.strategies.training_memory import training_buffer, training_bytes
from tomostream.tomogram import open_tomogram
from tomostream.units import format_bytes


@dataclass(frozen=True, slots=True)
class Step:
    """One stage for one tomogram (or for all, `-`)."""

    stage: str
    tomogram: str
    state: str  # done, to do
    memory_bytes: int | None  # projected peak of a process
    disk_bytes: int | None  # of the result
    work: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def row(self) -> list[str]:
        """As the cells of a table."""
        sizes = ["" if n is None else format_bytes(n) for n in (self.memory_bytes, self.disk_bytes)]
        return [self.stage, self.tomogram, self.state, *sizes, self.work]


@dataclass(frozen=True, slots=True)
class _Volume:
    name: str
    path: str
    shape: Triple
    itemsize: int
    spacing: float
    convert_bytes: int | None
    store_bytes: int | None


def plan_run(configuration: Configuration, stages: list[str]) -> list[Step]:
    """Plan the stages.

    Raises
    ------
    InputError
        If an input is missing or broken.
    BudgetError
        If a stage would not fit the memory.
    """
    project = Project(configuration.project)
    volumes = [_look(configuration, name, path) for name, path in input_paths(configuration.tomograms).items()]
    steps: list[Step] = []
    for stage in stages:
        if stage == "train":
            steps.append(_train(configuration, project, volumes))
        elif stage == "report":
            steps.append(Step(stage, "-", "to do", LIBRARIES_BYTES * 2, None, "one page"))
        elif stage == "evaluate":
            work = "no truth is given" if configuration.truth is None else f"tolerance {configuration.tolerance}"
            steps.append(Step(stage, "-", "to do" if configuration.truth else "nothing", LIBRARIES_BYTES * 2, None, work))
        else:
            steps += [_step(configuration, project, stage, volume) for volume in volumes]
    return steps


def check_memory(configuration: Configuration, stages: Sequence[str]) -> None:
    """Refuse, before any work, a run one of whose stages would not fit the memory; what else is wrong with an input is its stage's to tell.

    Raises
    ------
    BudgetError
        If a stage that is still to be done would not fit.
    """
    project = Project(configuration.project)
    volumes: list[_Volume] = []
    for name, path in input_paths(configuration.tomograms).items():
        with suppress(InputError):
            volumes.append(_look(configuration, name, path))
    if "train" in stages and volumes and not (project.model / "model.json").exists():
        _train(configuration, project, volumes)
    for stage in ("predict", "pick"):
        for volume in volumes if stage in stages else ():
            if not _is_there(configuration, project, stage, volume):
                _step(configuration, project, stage, volume)


def _is_there(configuration: Configuration, project: Project, stage: str, volume: _Volume) -> bool:
    """Whether there are results of a stage."""
    if stage == "pick":
        return (project.picks / f"{volume.name}.csv").exists()
    folders = [project.scores] if len(configuration.species) == 1 else [project.scores / s.name for s in configuration.species]
    return all((folder / f"{volume.name}.ome.zarr").exists() for folder in folders)


def _look(configuration: Configuration, name: str, path: str) -> _Volume:
    """Read the head of one input."""
    if not is_mrc(path):
        tomogram = open_tomogram(path)
        return _Volume(name, path, tomogram.shape, tomogram.dtype.itemsize, tomogram.spacing, None, None)
    header = peek_header(place(path))
    spacing = configuration.voxel_size or header.spacing
    if spacing is None:
        raise InputError(f"{path} has no voxel spacing in its header; give `voxel_size: ANGSTROM` in the configuration")
    stored = np.dtype(header.native_dtype)
    chunk, shard = triple(defaults.CHUNK_VOX), triple(defaults.SHARD_VOX)
    layout = StoreLayout.plan(StoreSpec(name, header.shape, stored, spacing, chunk, shard, defaults.CODEC, None))
    level = layout.levels[0]
    voxels = min(band_voxels_within(configuration.memory_bytes, header, layout, libraries=LIBRARIES_BYTES), math.prod(header.shape))
    needed = conversion_bytes(
        band_voxels=voxels,
        shard=level.shards.core((0, 0, 0)).shape,
        chunk=level.chunk,
        source_itemsize=header.dtype.itemsize,
        stored_itemsize=stored.itemsize,
        is_cast=False,
    )
    disk = sum(math.prod(one.shape) for one in layout.levels) * stored.itemsize
    return _Volume(name, path, header.shape, stored.itemsize, spacing, needed, disk)


def _step(configuration: Configuration, project: Project, stage: str, volume: _Volume) -> Step:
    text = " x ".join(map(str, volume.shape))
    if stage == "convert":
        done = not is_mrc(volume.path) or place(store_path(configuration, volume.name, volume.path)).exists()
        return Step(stage, volume.name, _state(done), volume.convert_bytes, volume.store_bytes, f"{text} voxels")
    if stage == "stats":
        from tomostream.stages.conversion.stage import STATS_BLOCK_BYTES

        needed = 2 * LIBRARIES_BYTES + configuration.cluster.workers * 4 * STATS_BLOCK_BYTES
        return Step(stage, volume.name, _state(_has_statistics(configuration, volume)), needed, None, "mean and standard deviation")
    if stage == "predict":
        return _predict(configuration, project, volume)
    radius = min(s.radius.in_voxels(volume.spacing) for s in configuration.species)
    smooth = configuration.pick.smooth.in_voxels(volume.spacing) if configuration.pick.smooth else 0.0
    workers, memory = configuration.cluster.workers, configuration.memory_bytes
    libraries = libraries_bytes()
    plan = plan_blocks(
        volume.shape, block=None, halo=None, radius=radius, smooth=smooth, memory=memory, libraries=libraries, workers=workers
    )
    done = _is_there(configuration, project, "pick", volume)
    return Step(stage, volume.name, _state(done), memory, None, f"blocks of {' x '.join(map(str, plan.block))}")


def _has_statistics(configuration: Configuration, volume: _Volume) -> bool:
    store = store_path(configuration, volume.name, volume.path)
    return (not is_mrc(volume.path) or place(store).exists()) and open_tomogram(store).normalisation is not None


def _predict(configuration: Configuration, project: Project, volume: _Volume) -> Step:
    from tomostream.inference.batch_statistics import unet_sampling
    from tomostream.inference.plan import plan_prediction
    from tomostream.strategies.unet.network import ResidualUNet

    level = reading_level(configuration, volume.spacing)
    disk = math.prod(volume.shape) * np.dtype(configuration.predict.score_dtype).itemsize * len(configuration.species)
    done = _is_there(configuration, project, "predict", volume)
    if configuration.strategy != "unet":  # its blocks are planned from the trained model
        work = f"strategy {configuration.strategy}, level {level}, blocks within the budget"
        return Step("predict", volume.name, _state(done), configuration.memory_bytes, disk, work)
    network = ResidualUNet(configuration.network.channels, len(configuration.species), seed=0)
    given = configuration.predict
    plan = plan_prediction(
        volume.shape,
        level=level,
        network=network,
        channels=configuration.network.channels,
        precision=given.precision,
        species=len(configuration.species),
        memory=configuration.memory_bytes,
        block_size=None,
        name=volume.name,
    )
    work = f"{len(plan.shards)} shards of {' x '.join(map(str, plan.shard))}, level {level}, {plan.redundancy:.2f} x the voxels computed"
    needed = plan.block_bytes
    if configuration.network.batch_statistics == "tomogram":
        adapting = unet_sampling(network.stride).projected_bytes(configuration.network.channels)
        needed = max(needed, LIBRARIES_BYTES + TORCH_BYTES + adapting)
    return Step("predict", volume.name, _state(done), needed, disk, work)


def _train(configuration: Configuration, project: Project, volumes: list[_Volume]) -> Step:
    train = configuration.train
    level = reading_level(configuration, volumes[0].spacing)
    done = (project.model / "model.json").exists()
    if configuration.strategy in ("average", "template"):
        needed, work = 2 * LIBRARIES_BYTES + TORCH_BYTES, f"strategy {configuration.strategy}, level {level}"
        return Step("train", "-", _state(done), needed, None, work)
    voxels = sum(math.prod(level_shape(volume.shape, level)) for volume in volumes)
    needed = training_bytes(configuration) + min(training_buffer(configuration), 4 * voxels)
    work = f"{train.steps} steps of {train.batch} crops of {train.crop}, level {level}, objective {configuration.objective.name}"
    return Step("train", "-", _state(done), needed, None, work)


def _state(is_done: bool) -> str:
    return "done" if is_done else "to do"
