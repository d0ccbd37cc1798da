"""`convert` and `stats`: MRC files become stores with statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tomostream.cluster import Resources
from tomostream.progress import Progress
from tomostream.remote.places import Place, place
from tomostream.stages.shared.batch import for_each
from tomostream.stages.shared.fingerprints import refuse_other_kind
from tomostream.store.casting import check_stored_type
from tomostream.store.conversion import ConvertSettings, convert_file
from tomostream.store.shard_file import Codec


@dataclass(frozen=True, slots=True)
class ConvertTask:
    """The conversion of one file to `out/NAME.ome.zarr`."""

    name: str
    path: str
    out: Place
    settings: ConvertSettings
    resources: Resources
    overwrite: bool


def convert_one(task: ConvertTask, progress: Progress) -> Place:
    """Convert one file; skip it if it is already converted."""
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
            task.settings,
            memory=task.resources.memory,
            overwrite=task.overwrite,
            name=task.name,
            progress=advance,
            report=progress.warn,
        )
    progress.say(f"{task.name}: {store}" if done else f"{task.name}: {store} is already made with these settings")
    return store


def convert_many(
    tomograms: Mapping[str, str],
    out: Place,
    settings: ConvertSettings,
    *,
    resources: Resources,
    overwrite: bool,
    progress: Progress,
) -> list[Place]:
    """Convert MRC files to `out/NAME.ome.zarr`; skip those that are done.  `tomograms` gives the files by name (`distinct_names`).

    Raises
    ------
    TomostreamError
        See `for_each`.
    """
    check_stored_type(settings.dtype)
    Codec.parse(settings.codec)
    tasks = [ConvertTask(name, path, place(out), settings, resources, overwrite) for name, path in tomograms.items()]
    return for_each(tasks, convert_one, resources=resources, progress=progress)
