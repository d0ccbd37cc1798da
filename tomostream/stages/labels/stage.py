"""`labels`: a mask on the tomogram's grid, shard by shard; each shard uses only the points that touch it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tomostream import defaults
from tomostream.budget import LIBRARIES_BYTES, remote_bytes
from tomostream.cluster import Resources, open_pool
from tomostream.errors import BudgetError
from tomostream.fingerprint import Fingerprint
from tomostream.formats.registry import Conversion
from tomostream.geometry import Box, Triple
from tomostream.masks import check_labels, mask_of_box
from tomostream.progress import Progress
from tomostream.remote.places import Place, RemotePath, place
from tomostream.stages.labels.painted_points import read_painted_points, record_of_table
from tomostream.stages.shared.batch import writable_folder
from tomostream.stages.shared.fingerprints import refuse_other_kind, tomogram_fingerprint
from tomostream.stages.shared.opening import open_told
from tomostream.store.omezarr import StoreSpec, StoreWriter, store_state, write_shard
from tomostream.store.pyramid import LevelLayout
from tomostream.store.specification import StoreLayout
from tomostream.tomogram import Tomogram
from tomostream.units import Length, format_bytes

POINT_BYTES = 1000  # of a row while the table is read: Python's own objects
SCRATCH_BYTES = 8 * 10**6  # of painting one label, slab by slab


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSettings:
    """The shape of a label."""

    radius: Length
    shape: str = defaults.LABEL_SHAPE
    voxel_size: float | None = None  # angstrom, where the store does not say it


@dataclass(frozen=True, slots=True)
class LabelTask:
    """A shard of a mask, with the points (voxels) that touch it."""

    store: str
    index: Triple
    box: Box
    volume: Triple
    points: np.ndarray  # (n, 3)
    values: np.ndarray  # uint8 (n,), what to paint for each
    radius: float
    shape: str


def label_shard(task: LabelTask) -> None:
    """Paint one shard and write it; where species overlap, the first one wins."""
    block = mask_of_box(task.box, task.points, radius=task.radius, shape=task.shape, volume=task.volume, values=task.values)
    write_shard(place(task.store), task.index, block)


def write_labels(
    store: str,
    table: str,
    out: Place,
    settings: LabelSettings,
    *,
    conversion: Conversion,
    resources: Resources,
    overwrite: bool,
    progress: Progress,
) -> tuple[Place, int]:
    """Write the label mask of a tomogram; return the store and the number of points in it.

    Raises
    ------
    InputError
        If the table has no point for this tomogram, or under 95 % of them lie inside.
    ExistsError
        If `out` was made otherwise, and `overwrite` is not set.
    """
    out = place(out)
    tomogram = open_told(store, progress, voxel_size=settings.voxel_size)
    points = read_painted_points(table, tomogram, conversion=conversion, progress=progress)
    radius = settings.radius.in_voxels(tomogram.spacing)
    _tell_if_filled(radius, settings, tomogram, progress)
    check_labels(points.position_zyx, radius, settings.shape, points.values)
    spec = StoreSpec(
        name=tomogram.name,
        shape=tomogram.shape,
        dtype=np.dtype(np.uint8),
        spacing=tomogram.spacing,
        chunk=None,
        shard=None,
        codec=defaults.CODEC,
        levels=1,
        attributes={
            "kind": "labels",
            "values": {str(i): name for i, name in enumerate(points.species, start=1)},
            "points_table": record_of_table(table, conversion).model_dump(),
        },
    )
    check_label_memory(
        tomogram.name, StoreLayout.plan(spec).levels[0], points=len(points), memory=resources.memory, threads=resources.local_threads,
        is_remote=isinstance(out, RemotePath),
    )  # fmt: skip
    refuse_other_kind(out, "labels")
    writable_folder(out.absolute().parent)
    fingerprint: Fingerprint = {
        "tomogram": tomogram_fingerprint(tomogram),
        "radius": radius,
        "shape": settings.shape,
        "points": points.digest,
        "species": list(points.species),
    }
    if store_state(out, fingerprint) == "done" and not overwrite:
        progress.say(f"{out} is already made with these settings")
        return out, len(points)
    with StoreWriter.create_or_resume(out, spec, fingerprint=fingerprint, overwrite=overwrite) as writer:
        pending = writer.pending()

        def tasks() -> Iterator[LabelTask]:
            for index in pending:
                box = writer.shards.core(index)
                near = points.near(box, radius)
                yield LabelTask(str(writer.partial), index, box, tomogram.shape, near.position_zyx, near.values, radius, settings.shape)

        with progress.track(f"labels {tomogram.name}", len(writer.shards)) as bar, open_pool(resources, progress) as pool:
            bar.advance(len(writer.shards) - len(pending))
            for task, _ in pool.run(label_shard, tasks(), is_grouped=True):
                writer.mark_done(task.index)
                bar.advance()
        path = writer.finish()
    progress.say(f"{path}: {len(points)} points of {', '.join(points.species)}")
    return path, len(points)


def _tell_if_filled(radius: float, settings: LabelSettings, tomogram: Tomogram, progress: Progress) -> None:
    """Warn of a radius with which one label fills the volume."""
    if radius > max(tomogram.shape):
        progress.warn(
            f"the radius {settings.radius} is {radius:.3g} voxels of tomogram '{tomogram.name}', more than its longest edge ({max(tomogram.shape)}), "
            f"so one label fills it; check the radius, its unit and the spacing ({tomogram.spacing:g} A)"
        )


def check_label_memory(name: str, layout: LevelLayout, *, points: int, memory: int, threads: int, is_remote: bool) -> None:
    """Refuse, before any work, what does not fit into memory: per thread a shard, an encoded chunk and a window's scratch, and all points.

    Raises
    ------
    BudgetError
        If it is over `memory`, bytes; `name` is the tomogram's.
    """
    shard = math.prod(min(s, -(-n // c) * c) for s, n, c in zip(layout.shard, layout.shape, layout.chunk, strict=True))
    needed = LIBRARIES_BYTES + remote_bytes(is_remote) + POINT_BYTES * points + threads * (2 * shard + SCRATCH_BYTES)
    if needed > memory:
        raise BudgetError(
            f"labelling {name} needs {format_bytes(needed)} ({points} points, {threads} shards at a time) but --memory is "
            f"{format_bytes(memory)}; raise --memory or use fewer --workers"
        )
