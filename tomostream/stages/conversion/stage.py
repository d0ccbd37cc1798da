"""`convert` and `stats`: MRC files become stores that know their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tomostream import defaults
from tomostream.cluster import ClusterSettings
from tomostream.geometry import triple
from tomostream.progress import Progress
from tomostream.remote.places import Place, place
from tomostream.stages.shared.batch import for_each
from tomostream.stages.shared.fingerprints import refuse_other_kind
from tomostream.store.casting import check_stored_type
from tomostream.store.conversion import convert_file
from tomostream.store.naming import distinct_names
from tomostream.store.shard_file import Codec


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertSettings:
    """How a tomogram is stored (lengths in voxels, z y x)."""

    voxel_size: float | None = None  # angstrom; only where the file has none
    dtype: str = defaults.DTYPE
    chunk: tuple[int, int, int] = triple(defaults.CHUNK_VOX)
    shard: tuple[int, int, int] = triple(defaults.SHARD_VOX)
    codec: str = defaults.CODEC
    levels: int | None = None
    checksum: bool = False


@dataclass(frozen=True, slots=True)
class ConvertTask:
    """The conversion of one file to `out/NAME.ome.zarr`."""

    name: str
    path: str
    out: Place
    settings: ConvertSettings
    memory: int
    overwrite: bool


def convert_one(task: ConvertTask, progress: Progress) -> Place:
    """Convert one file; if that is done already it is left as it is."""
    settings = task.settings
    refuse_other_kind(task.out / f"{task.name}.ome.zarr", None)
    done = 0
    with progress.track(f"convert {task.name}", 1) as bar:

        def advance(finished: int, total: int) -> None:
            nonlocal done
            bar.resize(total)
            bar.advance(finished - done)
            done = finished

        store = convert_file(
            place(task.path),
            task.out,
            voxel_size=settings.voxel_size,
            dtype=settings.dtype,
            chunk=settings.chunk,
            shard=settings.shard,
            codec=settings.codec,
            levels=settings.levels,
            memory=task.memory,
            overwrite=task.overwrite,
            checksum=settings.checksum,
            name=task.name,
            progress=advance,
            report=progress.warn,
        )
    progress.say(f"{task.name}: {store}" if done else f"{task.name}: {store} is already made with these settings")
    return store


def convert_many(
    paths: Sequence[str],
    out: Place,
    settings: ConvertSettings,
    *,
    memory: int,
    overwrite: bool,
    progress: Progress,
    cluster: ClusterSettings | None = None,
    name_from_folder: bool = False,
) -> list[Place]:
    """Convert MRC files to `out/NAME.ome.zarr`; what is done already is skipped.

    Raises
    ------
    TomostreamError
        See `for_each`.
    """
    names = distinct_names(paths, from_folder=name_from_folder)
    check_stored_type(settings.dtype)
    Codec.parse(settings.codec)
    tasks = [ConvertTask(name, path, place(out), settings, memory, overwrite) for name, path in names.items()]
    return for_each(tasks, convert_one, cluster=cluster, progress=progress)
