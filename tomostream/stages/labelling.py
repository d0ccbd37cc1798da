"""`labels`: a mask on the tomogram's grid, shard by shard; each shard looks only at the points that touch it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomostream import defaults
from tomostream.cluster import ClusterSettings, open_pool
from tomostream.errors import ExistsError, InputError
from tomostream.formats.registry import Conversion, read_table
from tomostream.geometry import Box, Triple, triple
from tomostream.masks import mask_of_box, points_touching
from tomostream.progress import Progress
from tomostream.stages.digest import tomogram_fingerprint
from tomostream.stages.points import inside_volume
from tomostream.store.omezarr import StoreSpec, StoreWriter, store_state, write_shard
from tomostream.tomogram import open_tomogram
from tomostream.units import Length


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSettings:
    """What a label looks like."""

    radius: Length
    shape: str = defaults.LABEL_SHAPE


@dataclass(frozen=True, slots=True)
class LabelTask:
    """One shard of a mask, with the points (per species, voxels) that touch it."""

    store: str
    index: Triple
    box: Box
    volume: Triple
    points: tuple[np.ndarray, ...]
    radius: float
    shape: str


def label_shard(task: LabelTask) -> None:
    """Paint one shard and write it; where species overlap, the first one's value stays."""
    block = np.zeros(task.box.shape, dtype=np.uint8)
    for value, points in reversed(list(enumerate(task.points, start=1))):
        block[mask_of_box(task.box, points, radius=task.radius, shape=task.shape, volume=task.volume) != 0] = value
    write_shard(Path(task.store), task.index, block)


def write_labels(
    store: str,
    table: str,
    out: Path,
    settings: LabelSettings,
    *,
    conversion: Conversion,
    cluster: ClusterSettings,
    overwrite: bool,
    progress: Progress,
) -> tuple[Path, int]:
    """Write the label mask of a tomogram; returns the store and the number of points in it.

    Raises
    ------
    InputError
        If the table has no point for this tomogram, or under 95 % of them lie inside.
    ExistsError
        If `out` was made otherwise, and `overwrite` is not set.
    """
    tomogram = open_tomogram(store)
    points = read_table(table, conversion=conversion).named(tomogram=tomogram.name).of(tomogram=tomogram.name)
    if len(points) == 0:
        raise InputError(f"table {table} has no point for tomogram '{tomogram.name}'")
    points = inside_volume(points, tomogram, table, progress)
    species = points.species_names()
    if len(species) > 255:
        raise InputError(f"table {table} has {len(species)} species; a mask holds at most 255")
    radius = settings.radius.in_voxels(tomogram.spacing)
    positions = [points.of(species=name).position_zyx for name in species]
    fingerprint: dict[str, Any] = json.loads(
        json.dumps(
            {
                "tomogram": tomogram_fingerprint(tomogram),
                "radius": radius,
                "shape": settings.shape,
                "points": [p.tolist() for p in positions],
            }
        )
    )
    state = store_state(out, fingerprint)
    if state == "done":
        progress.say(f"{out} is already made with these settings")
        return out, len(points)
    if state == "other" and not overwrite:
        raise ExistsError(f"{out} was made with other settings or points; use another name, or --overwrite to replace it")
    spec = StoreSpec(
        name=tomogram.name,
        shape=tomogram.shape,
        dtype=np.dtype(np.uint8),
        spacing=tomogram.spacing,
        chunk=triple(defaults.CHUNK_VOX),
        shard=triple(defaults.SHARD_VOX),
        codec=defaults.CODEC,
        levels=1,
        attributes={"kind": "labels", "values": {str(i): name for i, name in enumerate(species, start=1)}},
    )
    with StoreWriter.create_or_resume(out, spec, fingerprint=fingerprint, overwrite=overwrite) as writer:
        pending = writer.pending()

        def tasks() -> Iterator[LabelTask]:
            for index in pending:
                box = writer.shards.core(index)
                near = tuple(p[points_touching(box, p, radius=radius)] for p in positions)
                yield LabelTask(str(writer.partial), index, box, tomogram.shape, near, radius, settings.shape)

        with progress.track(f"labels {tomogram.name}", len(writer.shards)) as bar, open_pool(cluster, progress) as pool:
            bar.advance(len(writer.shards) - len(pending))
            for task, _ in pool.run(label_shard, tasks()):
                writer.mark_done(task.index)
                bar.advance()
        return writer.finish(), len(points)
