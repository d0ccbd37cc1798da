"""`labels`: a mask on the tomogram's grid, shard by shard; each shard uses only the points that touch it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tomostream import defaults
from tomostream.budget import LIBRARIES_BYTES, remote_bytes
from tomostream.cluster import Resources, open_pool
from tomostream.errors import BudgetError, InputError
from tomostream.fingerprint import Fingerprint
from tomostream.formats.registry import Conversion, read_table
from tomostream.geometry import Box, Triple
from tomostream.masks import check_labels, mask_of_box, points_touching
from tomostream.progress import Progress
from tomostream.remote.places import Place, RemotePath, place
from tomostream.stages.shared.batch import writable_folder
from tomostream.stages.shared.clicks import inside_volume, only_positives
from tomostream.stages.shared.fingerprints import refuse_other_kind, tomogram_fingerprint
from tomostream.stages.shared.opening import open_told
from tomostream.store.naming import counterpart
from tomostream.store.omezarr import StoreSpec, StoreWriter, store_state, write_shard
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
    points = only_positives(read_table(table, conversion=conversion), table, progress).named(tomogram=tomogram.name, species="particle")
    here = points.renamed({name: counterpart(name, [tomogram.name]) for name in points.tomograms()}).of(tomogram=tomogram.name)
    if len(here) == 0:
        others = ", ".join(points.tomograms())
        raise InputError(
            f"table {table} has no point for tomogram '{tomogram.name}'" + (f"; it has points for {others}" if others else ": it is empty")
        )
    here = inside_volume(here, tomogram, table, progress)
    species = here.species_names()
    if len(species) > 255:
        raise InputError(f"table {table} has {len(species)} species; a mask holds at most 255")
    radius = settings.radius.in_voxels(tomogram.spacing)
    _tell_if_filled(radius, settings, tomogram, progress)
    values = np.array([species.index(name) + 1 for name in here.species.tolist()], dtype=np.uint8)
    check_labels(here.position_zyx, radius, settings.shape, values)
    spec = StoreSpec(
        name=tomogram.name,
        shape=tomogram.shape,
        dtype=np.dtype(np.uint8),
        spacing=tomogram.spacing,
        chunk=None,
        shard=None,
        codec=defaults.CODEC,
        levels=1,
        attributes={"kind": "labels", "values": {str(i): name for i, name in enumerate(species, start=1)}},
    )
    _check_memory(spec, len(here), resources, is_remote=isinstance(out, RemotePath))
    refuse_other_kind(out, "labels")
    writable_folder(out.absolute().parent)
    fingerprint: Fingerprint = {
        "tomogram": tomogram_fingerprint(tomogram),
        "radius": radius,
        "shape": settings.shape,
        "points": _digest(here.position_zyx, values),
        "species": species,
    }
    if store_state(out, fingerprint) == "done" and not overwrite:
        progress.say(f"{out} is already made with these settings")
        return out, len(here)
    with StoreWriter.create_or_resume(out, spec, fingerprint=fingerprint, overwrite=overwrite) as writer:
        pending = writer.pending()

        def tasks() -> Iterator[LabelTask]:
            for index in pending:
                box = writer.shards.core(index)
                near = points_touching(box, here.position_zyx, radius=radius)
                yield LabelTask(
                    str(writer.partial), index, box, tomogram.shape, here.position_zyx[near], values[near], radius, settings.shape
                )

        with progress.track(f"labels {tomogram.name}", len(writer.shards)) as bar, open_pool(resources, progress) as pool:
            bar.advance(len(writer.shards) - len(pending))
            for task, _ in pool.run(label_shard, tasks(), is_grouped=True):
                writer.mark_done(task.index)
                bar.advance()
        path = writer.finish()
    progress.say(f"{path}: {len(here)} points of {', '.join(species)}")
    return path, len(here)


def _tell_if_filled(radius: float, settings: LabelSettings, tomogram: Tomogram, progress: Progress) -> None:
    """Warn of a radius with which one label fills the volume."""
    if radius > max(tomogram.shape):
        progress.warn(
            f"the radius {settings.radius} is {radius:.3g} voxels of tomogram '{tomogram.name}', more than its longest edge ({max(tomogram.shape)}), "
            f"so one label fills it; check the radius, its unit and the spacing ({tomogram.spacing:g} A)"
        )


def _check_memory(spec: StoreSpec, points: int, resources: Resources, *, is_remote: bool) -> None:
    """Refuse, before any work, what does not fit into memory: per thread a shard, an encoded chunk and a window's scratch, and all points."""
    level = StoreLayout.plan(spec).levels[0]
    shard = math.prod(min(s, -(-n // c) * c) for s, n, c in zip(level.shard, level.shape, level.chunk, strict=True))
    needed = LIBRARIES_BYTES + remote_bytes(is_remote) + POINT_BYTES * points + resources.local_threads * (2 * shard + SCRATCH_BYTES)
    if needed > resources.memory:
        raise BudgetError(
            f"labelling {spec.name} needs {format_bytes(needed)} ({points} points, {resources.local_threads} shards at a time) but --memory is "
            f"{format_bytes(resources.memory)}; raise --memory or use fewer --workers"
        )


def _digest(points_zyx: np.ndarray, values: np.ndarray) -> str:
    """Hash the painted points: a list of 10^5 clicks would bloat every ledger and store."""
    return hashlib.sha256(points_zyx.astype("<f8").tobytes() + values.tobytes()).hexdigest()
