"""`pick`: the peaks of score maps, as tables.  Cheap next to inference, and never needs it again."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tomostream.budget import libraries_bytes
from tomostream.cluster import ClusterSettings
from tomostream.errors import InputError
from tomostream.formats.csv_table import csv_text
from tomostream.geometry import Box, Triple
from tomostream.particles import Particles
from tomostream.progress import Progress
from tomostream.stages.digest import is_made_by, record_made_by, tomogram_fingerprint, write_text_atomically
from tomostream.stages.many import distinct_names, for_each, writable_folder
from tomostream.stages.restriction import Restriction, mask_in
from tomostream.tomogram import Tomogram, open_tomogram
from tomostream.units import Length


@dataclass(frozen=True, slots=True, kw_only=True)
class PickSettings:
    """Which peaks are picks.  Of `count` and `threshold` at least one is needed; with both, the best `count` above it."""

    radius: Length
    count: int | None = None
    threshold: float | None = None
    species: str | None = None
    smooth: Length | None = None
    border: Length | None = None
    block_size: Triple | None = None
    box: Box | None = None
    mask: str | None = None

    def check(self) -> None:
        """Refuse settings that can't be meant.

        Raises
        ------
        InputError
            If neither count nor threshold is given, or one of them is impossible.
        """
        if self.count is None and self.threshold is None:
            raise InputError("how many picks? give --count N (the best N) or --threshold T (all above T)")
        if self.count is not None and self.count < 1:
            raise InputError(f"--count must be at least 1, found {self.count}")
        if self.threshold is not None and np.isnan(self.threshold):
            raise InputError("--threshold must be a number, found nan")

    def fingerprint(self) -> dict[str, Any]:
        """All that the picks depend on, as values for JSON; the block's size is nothing of the kind."""
        values: dict[str, Any] = {key: getattr(self, key) for key in ("count", "threshold", "species")}
        values |= {key: repr(getattr(self, key)) for key in ("radius", "smooth", "border", "box")}
        return values | {"mask": None if self.mask is None else tomogram_fingerprint(open_tomogram(self.mask))}


@dataclass(frozen=True, slots=True)
class PickTask:
    """The picks of one tomogram: from one score map, or from one for each species."""

    name: str
    maps: tuple[tuple[str, PickSettings], ...]  # store and settings
    out: Path
    memory: int
    workers: int


def pick_map(scores: Tomogram, settings: PickSettings, *, memory: int, workers: int, progress: Progress) -> Particles:
    """Pick from one score map; the picks are in angstrom, best first.

    Raises
    ------
    TomostreamError
        If the settings don't fit the map, or the undecided candidates don't fit the memory.
    """
    from tomostream.picking.blocks import pick_volume

    settings.check()
    Restriction(settings.box, settings.mask).check(scores.shape, scores.name)
    species = settings.species or str(scores.attributes.get("species", "particle"))
    picks = pick_volume(
        lambda box: scores.decode(scores.read(box)),
        scores.shape,
        radius=settings.radius.in_voxels(scores.spacing),
        threshold=settings.threshold,
        count=settings.count,
        memory=memory,
        libraries=libraries_bytes(),
        block=settings.block_size,
        smooth=settings.smooth.in_voxels(scores.spacing) if settings.smooth else 0.0,
        border=settings.border.in_voxels(scores.spacing) if settings.border else 0.0,
        box=settings.box,
        mask=functools.partial(mask_in, settings.mask) if settings.mask is not None else None,
        workers=workers,
        progress=progress,
    )
    return Particles.build(
        picks.index_zyx.astype(np.float64) * scores.spacing, unit="angstrom", tomogram=scores.name, species=species, score=picks.score
    )


def pick_one(task: PickTask, progress: Progress) -> Path:
    """Write the picks of one tomogram to `out/NAME.csv`, best first; the same picks are not made twice."""
    table = task.out / f"{task.name}.csv"
    opened = [(open_tomogram(path), settings) for path, settings in task.maps]
    fingerprint = {"maps": [{"scores": tomogram_fingerprint(scores), **settings.fingerprint()} for scores, settings in opened]}
    if is_made_by(table, fingerprint):
        progress.say(f"{task.name}: picks are already made with these settings")
        return table
    writable_folder(task.out)
    parts = [pick_map(scores, settings, memory=task.memory, workers=task.workers, progress=progress) for scores, settings in opened]
    picks = Particles.concatenate(parts)
    picks = replace(picks.select(np.argsort(-picks.score, kind="stable")), tomogram=np.full(len(picks), task.name, dtype=object))
    write_text_atomically(table, csv_text(picks))
    record_made_by(table, fingerprint)
    for (_, settings), part in zip(opened, parts, strict=True):
        if settings.count is not None and len(part) < settings.count:
            progress.warn(f"{task.name}: {len(part)} picks, fewer than the {settings.count} wanted: no further voxel qualifies")
    progress.say(f"{task.name}: {len(picks)} picks")
    return table


def pick_many(
    paths: Sequence[str],
    *,
    out: Path,
    settings: PickSettings,
    memory: int,
    cluster: ClusterSettings,
    progress: Progress,
    name_from_folder: bool = False,
) -> list[Path]:
    """Pick from score maps; returns the tables.

    Raises
    ------
    TomostreamError
        See `for_each`.
    """
    settings.check()
    names = distinct_names(paths, from_folder=name_from_folder)
    tasks = [PickTask(name, ((path, settings),), out, memory, cluster.local_threads) for name, path in names.items()]
    return for_each(tasks, pick_one, cluster=cluster, progress=progress)
