"""How is a store built on a disk?  In a separate folder, `NAME.ome.zarr.partial`, which is renamed when it is complete.

1. The folder holds the metadata of the level arrays, and a ledger: the fingerprint, and a line for each finished shard; locked by its holder.
2. Every file is written under another name in `.writing`, and renamed into place.
3. `publish` writes the group's metadata, which alone makes the folder a Zarr group, waits until all files and folders are on the disk, moves
   an old store aside, gives the folder its name, and waits for that.  Until then an old store is untouched.  The ledger, and with it the
   lock, goes along with the folder and is removed last.
4. Before that nothing is forced to the disk.  A half-written store that is taken up after its machine's own crash, or on another machine, is
   read first: shards that are not whole are made again.

Limits: local file systems only; see `object_build` for the others.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tomostream.errors import ExistsError, InputError, TomostreamError
from tomostream.fingerprint import Fingerprint, differences
from tomostream.geometry import Triple
from tomostream.remote.atomic_files import remove_quietly, synchronise, synchronise_tree
from tomostream.remote.links import all_below, refuse_links
from tomostream.store.build_records import Note, is_same_build, new_head
from tomostream.store.existing_output import REPLACED_SUFFIX, beside, refuse_existing
from tomostream.store.ledger import LEDGER_NAME, Ledger, read_head
from tomostream.store.seals import metadata_text
from tomostream.store.shard_file import write_shard_file
from tomostream.store.shard_reading import damage_of_shard
from tomostream.store.specification import StoreLayout
from tomostream.store.zarr_opening import PARTIAL_SUFFIX

_SCRATCH_NAME = ".writing"
_TRIES, _PAUSE_SECONDS = 20, 0.05


class LocalBuild:
    """A half-written store in a local folder, locked; parameters and errors as of `StoreWriter.create_or_resume`."""

    def __init__(self, path: Path, fingerprint: Fingerprint, layout: StoreLayout, *, overwrite: bool) -> None:
        self.path = path
        self.partial = beside(path, PARTIAL_SUFFIX)
        self._overwrite = overwrite
        refuse_links(all_below(self.partial), "a half-written store")
        with _disk_errors(self.partial):
            self.partial.mkdir(parents=True, exist_ok=True)
            ledger = Ledger(self.partial / LEDGER_NAME)
            try:
                refuse_existing(path, fingerprint, overwrite=overwrite)  # another process may have finished it while we waited for the lock
                head = new_head(fingerprint, layout.to_json())
                if ledger.head is not None and ledger.head["fingerprint"] != fingerprint and not overwrite:
                    raise ExistsError(
                        f"{self.partial} is half-written with other settings ({differences(ledger.head['fingerprint'], fingerprint)}); "
                        "finish it with those, or start again with --overwrite"
                    )
                if not is_same_build(ledger.head, head):
                    ledger.clear()
                    _empty(self.partial)
                    ledger.begin(head)
                if ledger.is_doubtful:
                    ledger.settle([index for index in sorted(ledger.done) if _is_lost(self.partial, layout, index)])
                _prepare(self.partial, layout)
            except BaseException:
                if ledger.head is None:
                    shutil.rmtree(self.partial, ignore_errors=True)
                ledger.close()
                raise
        self._ledger = ledger

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of what makes the store."""
        return self._ledger.head["fingerprint"] if self._ledger.head else {}

    @property
    def done(self) -> set[Triple]:
        """The shards that the ledger records as done."""
        return self._ledger.done

    def mark_done(self, index: Triple) -> None:
        """Append a line to the ledger."""
        with _disk_errors(self.partial):
            self._ledger.mark_done(index)

    @property
    def notes(self) -> list[Note]:
        """The notes in the ledger."""
        return self._ledger.notes

    def add_note(self, values: Note) -> None:
        """Append a line to the ledger."""
        with _disk_errors(self.partial):
            self._ledger.add_note(values)

    def publish(self, group: Mapping[str, object]) -> None:
        """Write the group's metadata and rename the folder."""
        aside = beside(self.path, REPLACED_SUFFIX)
        with _disk_errors(self.partial):
            _write_json(self.partial / "zarr.json", group, self.partial / _SCRATCH_NAME)
            _clear(self.partial / _SCRATCH_NAME)
            synchronise_tree(self.partial)
            if os.path.lexists(self.path):
                refuse_existing(self.path, {}, overwrite=self._overwrite)
                shutil.rmtree(aside, ignore_errors=True)
                self.path.rename(aside)
            self.partial.rename(self.path)
            synchronise(self.path.parent)
            # no other process can interfere: the lock is held until here
        remove_quietly(self.path / LEDGER_NAME)
        self.close()
        shutil.rmtree(aside, ignore_errors=True)

    def forget(self) -> None:
        """Empty the ledger; the next writer removes the shards."""
        with _disk_errors(self.partial):
            self._ledger.clear()

    def close(self) -> None:
        """Release the lock.  An unfinished store stays for a later run."""
        self._ledger.close()


def local_layout(partial: Path) -> StoreLayout | None:
    """Return the layout that the ledger of a half-written store holds."""
    head = read_head(partial / LEDGER_NAME)
    return None if head is None else StoreLayout.from_json(head["layout"])


def put_file(partial: Path, number: int, index: Triple, layout: StoreLayout, block: np.ndarray) -> None:
    """Write the shard of one of the `arrays`."""
    path, edges = layout.arrays[number]
    with _disk_errors(partial):
        write_shard_file(
            partial.joinpath(path, "c", *map(str, index)),
            block,
            chunk=edges.chunk,
            shard=edges.shard,
            codec=layout.codec,
            scratch=partial / _SCRATCH_NAME,
        )


def _is_lost(partial: Path, layout: StoreLayout, index: Triple) -> bool:
    """Whether a finished shard is incomplete in any array."""
    return any(damage_of_shard(partial / path, edges, layout.dtype, layout.codec, index) for path, edges in layout.arrays)


def _empty(partial: Path) -> None:
    """Remove all but the ledger."""
    for entry in partial.iterdir():
        if entry.name == LEDGER_NAME:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _prepare(partial: Path, layout: StoreLayout) -> None:
    """Write the arrays' metadata; clear away files that a killed writer left unnamed."""
    scratch = partial / _SCRATCH_NAME
    _clear(scratch)
    scratch.mkdir(exist_ok=True)
    for number, (path, _) in enumerate(layout.arrays):
        (partial / path).mkdir(exist_ok=True)
        _write_json(partial / path / "zarr.json", layout.array_metadata(number), scratch)


def _clear(scratch: Path) -> None:
    """Remove the folder; a worker whose client was killed may still be writing its last shard there."""
    for tries_left in reversed(range(_TRIES)):
        try:
            shutil.rmtree(scratch)
        except OSError as error:  # a file appeared or vanished meanwhile
            if not scratch.exists():
                return
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT) or not tries_left:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _write_json(path: Path, values: Mapping[str, object], scratch: Path) -> None:
    temporary = scratch / uuid.uuid4().hex
    temporary.write_text(metadata_text(values))
    temporary.replace(path)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the file system into errors that say what to do."""
    try:
        yield
    except FileNotFoundError:
        raise TomostreamError(f"{path} disappeared while it was being written; another process finished, moved or removed it") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TomostreamError(
                f"{path}: the disk is full; free some space and run the same command again; finished shards are kept"
            ) from None
        raise InputError(f"{path} can't be written: {error.strerror or error}; choose another folder, or change its permissions") from None
