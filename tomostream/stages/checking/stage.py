"""`check`: stores, score maps, model folders, whole projects.

1. What is each path?  A store, a model folder, a project, a table, or a folder of these.
2. Each part is read as other stages read it; every problem is reported when it is found.
3. With `repair`, what can be made again is, in the order of dependence: tomograms and masks, statistics, scores, picks.  Then the same is checked again,
   and what is still wrong is the result.

Half-written stores are not damage: the command that makes them resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tomostream.budget import LIBRARIES_BYTES
from tomostream.errors import BudgetError, InputError, TomostreamError
from tomostream.geometry import Box, Triple
from tomostream.learn.training_files import NEXT_NAME
from tomostream.progress import Progress
from tomostream.remote.links import Entered
from tomostream.remote.path_kinds import Kind, kind_at
from tomostream.remote.places import RemotePath, place
from tomostream.stages.checking.damage import ORDER, Damage
from tomostream.stages.checking.folders import check_records, check_table
from tomostream.stages.checking.mask_points import MaskPainter
from tomostream.stages.checking.models import check_model
from tomostream.stages.checking.remaking import remake_picks, remake_shard, remake_statistics
from tomostream.stages.checking.sources import Sources
from tomostream.stages.checking.store_voxels import check_voxels, projected_bytes
from tomostream.stages.checking.volumes import check_volume
from tomostream.stages.shared.sidecar import MadeBy, recorded_name
from tomostream.store.naming import MRC_ENDINGS
from tomostream.store.zarr_opening import PARTIAL_SUFFIX
from tomostream.strategies.model_folder import is_model_folder
from tomostream.tomogram import Tomogram, open_tomogram
from tomostream.units import format_bytes


def check_paths(paths: Sequence[str], *, repair: bool, memory: int, progress: Progress) -> list[Damage]:
    """Check everything below some paths; return the damaged parts.

    Parameters
    ----------
    paths
        Stores (also URLs), MRC files, model folders, project folders, tables, or folders of them.
    repair
        Whether to make again what can be made; the result is what is damaged still.
    memory
        Budget of the process, bytes.
    progress
        Follows the shards.

    Raises
    ------
    InputError
        If a path does not exist, or has nothing to check below it.
    """
    check = _Check(paths, memory, progress)
    found = check.all()
    if not repair or not found:
        return found
    return check.all() if check.mend(found) else found


class _Check:
    def __init__(self, paths: Sequence[str], memory: int, progress: Progress) -> None:
        self._paths, self._memory, self._progress = list(paths), memory, progress
        self._sources = Sources([Path(path) for path in paths if "://" not in path])
        self._why: dict[tuple[str, str], str] = {}  # a part could not be made again
        self._entered = Entered()

    def all(self) -> list[Damage]:
        """Check everything."""
        found: list[Damage] = []
        for path in self._paths:
            self._entered = Entered()
            for damage in self._path(path):
                why = self._why.get((damage.path, damage.part))
                found.append(damage if why is None else Damage(damage.path, damage.part, f"{damage.problem}; not made again: {why}"))
        return found

    def mend(self, found: list[Damage]) -> bool:
        """Repair what can be repaired; return whether anything was tried."""
        tried: set[tuple[str, str]] = set()
        for damage in sorted(found, key=lambda one: ORDER.index(one.rank)):  # stable: finer levels before coarser ones
            key = (damage.path, damage.part)
            if damage.mend is None or key in tried:
                continue
            tried.add(key)
            try:
                damage.mend()
                self._progress.say(f"{damage.path}: {damage.part}: made again")
            except (TomostreamError, OSError) as error:
                self._why[key] = " ".join(str(error).split())
        return bool(tried)

    def _path(self, text: str) -> Iterator[Damage]:
        path = place(text)
        if isinstance(path, RemotePath) or path.name.rstrip("/").endswith((".zarr", f".zarr{PARTIAL_SUFFIX}")):
            yield from self._store(text)
            return
        if not path.exists():
            raise InputError(f"{path} does not exist; give stores, model folders, tables or project folders")
        if path.name.lower().endswith(MRC_ENDINGS):
            yield from check_volume(path, self._progress)
            return
        if kind_at(path) is Kind.CONFIGURATION:
            raise InputError(f"{path} is a configuration, which has no checksums; give its project folder")
        if path.is_file():
            yield from self._table(path)
            return
        if not path.is_dir():
            raise InputError(f"{path} is neither a file nor a folder; give stores, model folders, tables or project folders")
        parts = list(self._parts(path))
        if not parts:
            raise InputError(f"{path} has nothing to check: no store, no model, no table of picks; give one of these")
        for part in parts:
            yield from part

    def _parts(self, folder: Path) -> Iterator[Iterator[Damage]]:
        """What can be checked in a folder, each when it is asked for; the folders in a fixed order."""
        if (folder / "zarr.json").is_file() or (folder / ".zattrs").is_file():
            yield self._store(str(folder))
            return
        if is_model_folder(folder):
            if (folder / NEXT_NAME).is_dir():
                self._progress.warn(
                    f"{folder}: the training of a model that is to replace it is not finished; give its command again: it goes on where it stopped"
                )
            yield check_model(folder)
            return
        self._entered.is_new(folder)
        if (folder / "resolved.yaml").is_file():
            yield check_records(folder)
        for entry in sorted(folder.iterdir()):
            if entry.name.endswith(PARTIAL_SUFFIX):
                self._progress.warn(f"{entry} is half-written; run the command that makes it again: it resumes where it stopped")
            elif entry.name.endswith(".zarr"):
                yield self._store(str(entry))
            elif entry.is_dir() and not entry.name.startswith(".") and self._entered.is_new(entry):
                yield from self._parts(entry)
        for name in self._tables(folder):
            yield self._table(folder / name)

    def _tables(self, folder: Path) -> list[str]:
        """Tables with a record, also those that are gone; and the copies of clicks."""
        names = {entry.name for entry in folder.iterdir()}
        recorded = {table for name in names if (table := recorded_name(name)) is not None}
        clicks = {name for name in names if folder.name in ("labels", "picks") and name.endswith(".csv") and not name.startswith(".")}
        return sorted(name for name in recorded | clicks if name.endswith(".csv"))

    def _table(self, table: Path) -> Iterator[Damage]:
        def mend(record: MadeBy) -> Callable[[], None]:
            return partial(remake_picks, table, record, self._sources, memory=self._memory, progress=self._progress)

        return check_table(table, mend)

    def _store(self, path: str) -> Iterator[Damage]:
        try:
            tomogram = open_tomogram(path)
        except BudgetError:
            raise
        except TomostreamError as error:
            yield Damage(path, "metadata", " ".join(str(error).split()))
            return
        if tomogram.attributes.get("complete") is not True or any(level.codec is None for level in tomogram.arrays):
            yield from self._foreign(tomogram)
            return
        for warning in tomogram.warnings:  # a store that we made needs no assumption, so a warning is damage
            yield Damage(path, "metadata", warning)
        needed = projected_bytes(tomogram) + LIBRARIES_BYTES
        if needed > self._memory:
            raise BudgetError(f"checking {path} needs {format_bytes(needed)} but --memory is {format_bytes(self._memory)}; raise --memory")
        if not all(level.codec is not None and level.codec.has_checksum for level in tomogram.arrays):
            self._progress.warn(
                f"{path} was made without checksums, by tomostream 0.1: flipped bits in its voxels can't be detected; to add checksums, make it again with --overwrite"
            )
        painter = MaskPainter(tomogram, self._sources, memory=self._memory)
        rank = "scores" if tomogram.attributes.get("kind") == "scores" else "tomogram"

        def mend(level: int, index: Triple) -> Callable[[], None]:
            return partial(remake_shard, tomogram, self._sources, level, index, memory=self._memory, painter=painter)

        def mend_statistics(level: int) -> Callable[[], None]:
            return partial(remake_statistics, path, level, memory=self._memory)

        shards = tomogram.arrays[0].layout.shards
        with self._progress.track(f"check {tomogram.name}", len(shards)) as bar:
            for damage in check_voxels(tomogram, bar, mend, mend_statistics):
                yield Damage(damage.path, damage.part, damage.problem, damage.mend, rank if damage.rank == "tomogram" else damage.rank)

    def _foreign(self, tomogram: Tomogram) -> Iterator[Damage]:
        """Decode all chunks of a store of other software, as far as its codecs reveal damage."""
        for number in range(tomogram.level_count):
            level = tomogram.at_level(number)
            shards = tomogram.levels[number].layout.shards
            with self._progress.track(f"check {tomogram.name}, level {number}", len(shards)) as bar:
                for core in shards.cores():
                    try:
                        level.read(core.clipped(Box.whole(level.shape)))
                    except TomostreamError as error:
                        yield Damage(tomogram.path, f"{tomogram.levels[number].path}, {core}", " ".join(str(error).split()))
                    bar.advance()
