"""`stats`: measure the statistics of tomograms once, and keep them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from tomostream import defaults
from tomostream.budget import libraries_bytes, remote_bytes
from tomostream.cluster import Resources
from tomostream.errors import BudgetError, InputError
from tomostream.normalisation import Normalisation
from tomostream.progress import Progress
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.places import Place, place
from tomostream.stages.shared.batch import for_each, writable_folder
from tomostream.stages.shared.fingerprints import tomogram_fingerprint
from tomostream.stages.shared.opening import open_told
from tomostream.stages.shared.sidecar import is_made_by, record_made_by
from tomostream.store.zarr_opening import is_url
from tomostream.tomogram import Tomogram, store_normalisation
from tomostream.units import format_bytes

STATS_BLOCK_BYTES = 32 * 10**6  # of a block that a thread holds while measuring


def measure(tomogram: Tomogram, *, memory: int, workers: int = 1, keep: bool = True) -> Normalisation:
    """Return the tomogram's statistics, plain and robust: those stored with it, else computed, and stored if `convert` made the store.

    Where only the plain ones are stored, as of version 0.1, they stay and the robust ones are added.

    Parameters
    ----------
    tomogram
        At the level that is meant: each has statistics of its own.
    memory
        Budget in bytes.
    workers
        Threads.
    keep
        Whether to store what was computed.

    Raises
    ------
    TomostreamError
        If the store can't be read, or has no finite voxel.
    """
    known = tomogram.normalisation
    if known is not None and known.robust is not None:
        return known
    memory -= remote_bytes(is_url(tomogram.path))
    normalisation = measure_array(tomogram, memory=memory, workers=workers, name=tomogram.name)
    if known is not None:
        normalisation = replace(known, robust=normalisation.robust)
    if keep and tomogram.is_ours:
        try:
            store_normalisation(tomogram.path, tomogram.level, normalisation)
        except InputError:
            if not is_url(tomogram.path):
                raise  # on a server we may be allowed to read only: then it is measured again each time
    return normalisation


def measure_array(array: Any, *, memory: int, workers: int, name: str) -> Normalisation:
    """Measure a tomogram, or a numpy, zarr or dask array, in blocks of a fixed size: the last bits of the result don't depend on the budget.

    At most `workers` threads, as many as the memory holds blocks for.

    Raises
    ------
    BudgetError
        If not even the blocks of one thread fit the memory.
    InputError
        If no voxel is finite.
    """
    import dask.threaded

    from tomostream.graph.lazy_arrays import as_dask
    from tomostream.graph.moments import projected_bytes, statistics_of

    lazy = as_dask(array, block_bytes=STATS_BLOCK_BYTES)
    libraries = libraries_bytes()
    threads = max((n for n in range(1, workers + 1) if libraries + projected_bytes(lazy, threads=n) <= memory), default=0)
    if not threads:
        raise BudgetError(
            f"measuring {name} needs {format_bytes(libraries + projected_bytes(lazy, threads=1))} but the memory budget is "
            f"{format_bytes(memory)}; raise --memory"
        )
    try:
        # the function, not its name "threads": for a name Dask imports distributed, which takes 0.5 s
        with dask.config.set(scheduler=dask.threaded.get, num_workers=threads):
            return statistics_of(lazy, clip_sigma=defaults.CLIP_SIGMA)
    except InputError as error:
        raise InputError(str(error) if name in str(error) else f"{name}: {error}") from None


class StatsAnswer(TypedDict):
    """The content of `NAME.stats.json`, and an entry of `stats --json`: statistics of the finite voxels."""

    name: str
    mean: float
    std: float
    clipped_mean: float
    clipped_std: float
    finite: int
    total: int


@dataclass(frozen=True, slots=True)
class StatsTask:
    """The statistics of one store."""

    name: str
    path: str
    out: Place | None
    resources: Resources


def stats_one(task: StatsTask, progress: Progress) -> StatsAnswer:
    """Measure one store and keep the result with it, or beside it."""
    tomogram = open_told(task.path, progress, needs_spacing=False)
    is_kept_inside = task.out is None and tomogram.is_ours
    folder = None if is_kept_inside else task.out or (None if is_url(tomogram.path) else Path(tomogram.path).absolute().parent)
    if folder is not None:
        beside = writable_folder(folder) / f"{task.name}.stats.json"
        fingerprint = {"statistics of": tomogram_fingerprint(tomogram), "clip_sigma": defaults.CLIP_SIGMA}
        if is_made_by(beside, fingerprint):
            done: StatsAnswer = json.loads(beside.read_text(encoding="utf-8"))  # its hash was compared
            return done
    with progress.track(f"stats {task.name}", 1) as bar:
        found = measure(tomogram, memory=task.resources.memory, workers=task.resources.local_threads, keep=False)
        if is_kept_inside and found != tomogram.normalisation:
            store_normalisation(tomogram.path, tomogram.level, found)
        bar.advance()
    record: StatsAnswer = {
        "name": task.name,
        "mean": found.mean,
        "std": found.std,
        "clipped_mean": found.clipped_mean,
        "clipped_std": found.clipped_std,
        "finite": found.finite,
        "total": found.total,
    }
    if folder is not None:
        write_atomically(beside, json.dumps(record, indent=1) + "\n")
        record_made_by(beside, fingerprint)
    elif not is_kept_inside:
        progress.warn(f"{task.name}: the statistics of a URL are not kept; give -o DIR to keep them")
    return record


def stats_many(tomograms: Mapping[str, str], *, out: Place | None, resources: Resources, progress: Progress) -> list[StatsAnswer]:
    """Measure stores; return their records (name, mean, std, clipped_mean, clipped_std, finite, total).

    `tomograms` gives the stores by name (`distinct_names`).  Statistics go into the store if `convert` made it, else into
    `out/NAME.stats.json` (default: beside the store, if it is local).

    Raises
    ------
    TomostreamError
        See `for_each`.
    """
    tasks = [StatsTask(name, path, None if out is None else place(out), resources) for name, path in tomograms.items()]
    return for_each(tasks, stats_one, resources=resources, progress=progress)
