"""How is an OME-Zarr 0.5 store written shard by shard, so that a kill loses only the shards in flight?

1. `StoreWriter.create_or_resume` makes `NAME.ome.zarr.partial` with the metadata of the level arrays and a locked ledger, or takes
   up one whose fingerprint is the same.
2. `write_shard` writes one level-0 shard and the shards of the coarser levels above it, coarsest first; it needs the folder's path
   only, so that any process can do it.  Every file is renamed into place.
3. `mark_done` notes the shard in the ledger; the one writer that holds the ledger does this.
4. `finish` writes the group's metadata, which alone makes the folder a Zarr group, moves an old store aside, and gives the folder its
   name.  Until then an old store is untouched.

A writer's memory besides the block: about one byte a voxel (the coarser levels, averaged in float32; float64 types: two), and two chunks.

Limits: one writer a store; the same shard may be written twice, by equal content.  Local file systems only.
"""

import contextlib
import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Shaped

from tomostream.errors import ExistsError, InputError, TomostreamError
from tomostream.geometry import BlockGrid, Triple
from tomostream.store.ledger import LEDGER_NAME, Ledger, read_head
from tomostream.store.opening import PARTIAL_SUFFIX
from tomostream.store.pyramid import mean_pooled, rounded_to
from tomostream.store.shard_file import write_shard_file
from tomostream.store.specification import StoreLayout, StoreSpec, group_metadata
from tomostream.store.states import REPLACED_SUFFIX, StoreState, beside, differences, plain, refuse_existing, store_state

__all__ = ["StoreSpec", "StoreState", "StoreWriter", "store_state", "write_shard"]

_SCRATCH_NAME = ".writing"


def write_shard(partial_path: Path, index: Triple, block: Shaped[np.ndarray, "z y x"]) -> None:
    """Write a level-0 shard and the shards of the coarser levels above it into a half-written store.

    Parameters
    ----------
    partial_path
        The folder that `StoreWriter.partial` names.
    index
        The shard's (z, y, x) index.
    block
        The voxels of the shard's core: exactly its shape, and the store's type.

    Raises
    ------
    TomostreamError
        If the block does not fit, or the disk refuses it.
    """
    head = read_head(partial_path / LEDGER_NAME)
    if head is None:
        raise TomostreamError(f"{partial_path} is not a store that is being written; it was finished, moved or removed by another process")
    layout = StoreLayout.from_json(head["layout"])
    shards = layout.levels[0].shards
    if not all(0 <= i < n for i, n in zip(index, shards.counts, strict=True)):
        raise TomostreamError(f"{partial_path} has no shard {index}: it has {shards.counts} shards")
    core = shards.core(index)
    if block.shape != core.shape or block.dtype.newbyteorder("=") != layout.dtype:
        raise TomostreamError(
            f"shard {index} of {partial_path} takes {layout.dtype} voxels of shape {core.shape}, found {block.dtype} of shape {tuple(block.shape)}"
        )
    blocks = [block]
    while len(blocks) < len(layout.levels):
        blocks.append(rounded_to(mean_pooled(blocks[-1]), layout.dtype))
    with _disk_errors(partial_path):
        for level in reversed(range(len(blocks))):
            write_shard_file(
                partial_path.joinpath(str(level), "c", *map(str, index)),
                blocks.pop(),
                chunk=layout.levels[level].chunk,
                shard=layout.levels[level].shard,
                codec=layout.codec,
                scratch=partial_path / _SCRATCH_NAME,
            )


class StoreWriter:
    """The one writer of a half-written store; made by `create_or_resume`, a context manager.  Leaving it early keeps what is done.

    Attributes
    ----------
    path, partial
        The store's final path, and the folder while it is half-written.
    layout
        Of all levels.
    """

    def __init__(self, path: Path, spec: StoreSpec, ledger: Ledger, layout: StoreLayout, *, overwrite: bool) -> None:
        self.path = path
        self.partial = beside(path, PARTIAL_SUFFIX)
        self.layout = layout
        self._spec = spec
        self._ledger = ledger
        self._overwrite = overwrite

    @classmethod
    def create_or_resume(cls, path: Path, spec: StoreSpec, *, fingerprint: dict[str, Any], overwrite: bool) -> "StoreWriter":
        """Start a store, or take up the half-written one with the same fingerprint.

        Parameters
        ----------
        path
            Where the finished store will be; by convention `NAME.ome.zarr`.
        spec
            What it holds.
        fingerprint
            JSON values that say from what, and with which settings, it is made.
        overwrite
            Whether a store of other settings may be replaced; a finished one is, when the new one is whole.

        Raises
        ------
        InputError
            If the specification is impossible, or the folder can't be written.
        ExistsError
            If there is something at `path`, or half-written with other settings, and `overwrite` is false; or at `path` is
            something that is not ours.
        BusyError
            If another process writes it.
        """
        layout = StoreLayout.plan(spec)
        fingerprint = plain(fingerprint)
        refuse_existing(path, fingerprint, overwrite=overwrite)
        partial = beside(path, PARTIAL_SUFFIX)
        with _disk_errors(partial):
            partial.mkdir(parents=True, exist_ok=True)
            ledger = Ledger(partial / LEDGER_NAME)
            try:
                refuse_existing(path, fingerprint, overwrite=overwrite)  # it may have been finished while we waited for the lock
                head = {"fingerprint": fingerprint, "layout": layout.to_json()}
                if ledger.head is not None and ledger.head["fingerprint"] != fingerprint and not overwrite:
                    raise ExistsError(
                        f"{partial} is half-written with other settings ({differences(ledger.head['fingerprint'], fingerprint)}); "
                        "finish it with those, or start again with --overwrite"
                    )
                if ledger.head != head:
                    ledger.clear()
                    _empty(partial)
                    ledger.begin(head)
                _prepare(partial, layout)
            except BaseException:
                if ledger.head is None:
                    shutil.rmtree(partial, ignore_errors=True)
                ledger.close()
                raise
        return cls(path, spec, ledger, layout, overwrite=overwrite)

    @property
    def shards(self) -> BlockGrid:
        """The level-0 shards."""
        return self.layout.levels[0].shards

    def pending(self) -> list[Triple]:
        """The indices of the level-0 shards that are not marked as done, z slowest."""
        return [index for index in self.shards.indices() if index not in self._ledger.done]

    def write(self, index: Triple, block: Shaped[np.ndarray, "z y x"]) -> None:
        """Write a shard at all levels; see `write_shard`."""
        write_shard(self.partial, index, block)

    def mark_done(self, index: Triple) -> None:
        """Note that a shard is written; a resumed run will not ask for it again.  Safe from several threads."""
        with _disk_errors(self.partial):
            self._ledger.mark_done(index)

    def finish(self, attributes: dict[str, Any] | None = None) -> Path:
        """Write the group's metadata and give the store its name.

        Parameters
        ----------
        attributes
            More JSON values for the attribute `tomostream`.

        Raises
        ------
        TomostreamError
            If shards are missing, or the disk refuses it.
        """
        missing = self.pending()
        if missing:
            raise TomostreamError(
                f"{self.partial} can't be finished: {len(missing)} of {len(self.shards)} shards are not written, the first is {missing[0]}"
            )
        ours = {
            **self._spec.attributes,
            **(attributes or {}),
            "fingerprint": self._ledger.head["fingerprint"] if self._ledger.head else {},
            "complete": True,
        }
        aside = beside(self.path, REPLACED_SUFFIX)
        with _disk_errors(self.partial):
            group = group_metadata(self._spec, len(self.layout.levels), ours)
            _write_json(self.partial / "zarr.json", group, self.partial / _SCRATCH_NAME)
            shutil.rmtree(self.partial / _SCRATCH_NAME)
            if os.path.lexists(self.path):
                refuse_existing(self.path, {}, overwrite=self._overwrite)
                shutil.rmtree(aside, ignore_errors=True)
                self.path.rename(aside)
            self.partial.rename(self.path)
            # the ledger, and with it the lock, goes along with the folder and is removed last: nobody can step in between
            (self.path / LEDGER_NAME).unlink(missing_ok=True)
        self.close()
        shutil.rmtree(aside, ignore_errors=True)
        return self.path

    def close(self) -> None:
        """Let go of the lock.  An unfinished store stays for a later run."""
        self._ledger.close()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


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
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for level in range(len(layout.levels)):
        (partial / str(level)).mkdir(exist_ok=True)
        _write_json(partial / str(level) / "zarr.json", layout.array_metadata(level), scratch)


def _write_json(path: Path, values: dict[str, Any], scratch: Path) -> None:
    temporary = scratch / uuid.uuid4().hex
    temporary.write_text(json.dumps(values, indent=2) + "\n")
    temporary.replace(path)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn the file system's refusals into errors that say what to do."""
    try:
        yield
    except FileNotFoundError:
        raise TomostreamError(f"{path} vanished while it was being written; it was finished, moved or removed by another process") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TomostreamError(
                f"{path}: the disk is full; free some space and run the same command again, finished shards are kept"
            ) from None
        raise InputError(f"{path} can't be written: {error.strerror or error}; choose another folder, or change its permissions") from None
