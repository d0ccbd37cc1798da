"""How is a store built on an object store, which knows no renaming, no appending and no locks?  In place; its last object makes it visible.

    NAME.ome.zarr.partial/lease.json    who writes it (`remote.leases`)
    NAME.ome.zarr.partial/head.json     fingerprint and layout: written before any shard
    NAME.ome.zarr.partial/notes.json    what is to be kept until the store is whole
    NAME.ome.zarr/0/zarr.json ...       the level arrays' metadata
    NAME.ome.zarr/0/c/z/y/x             a shard: one upload, there whole or not at all
    NAME.ome.zarr/zarr.json             the group's metadata: written last, it alone makes the store one

1. A new build takes the lease, writes a head that says `"clearing": true`, removes the old store's group metadata, then all its objects,
   and writes the head as it will stay.  Killed in between, the next one begins to clear again; so no shard of other settings is left.
2. The ledger is the listing of level 0: a shard is uploaded at its coarsest level first, so that one at level 0 is done at all levels.  A
   resumed build lists them once, a thousand a request; nothing else is ever listed.
3. Who writes a shard reads the head first, and compares the fingerprint's digest in `partial`'s name: a worker left over from a run with
   other settings is refused.
4. `publish` writes the group's metadata, then removes the head and the lease.

Limits: a store that is replaced is gone when its successor begins, not when that is whole.  An upload in parts (shards above 16 MB) that
is killed leaves parts that are no object, and that the bucket's lifecycle rule removes (docs/storage.md).
"""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

import numpy as np

from tomostream.errors import ExistsError, TomostreamError
from tomostream.fingerprint import Fingerprint, differences
from tomostream.geometry import Triple, triple
from tomostream.remote.leases import Lease
from tomostream.remote.places import RemotePath
from tomostream.store.existing_output import HEAD_NAME, beside, half_written_head, refuse_existing
from tomostream.store.seals import metadata_text
from tomostream.store.shard_file import write_shard_bytes
from tomostream.store.specification import StoreLayout
from tomostream.store.typed_json import parse_json
from tomostream.store.zarr_opening import PARTIAL_SUFFIX

LEASE_NAME = "lease.json"
NOTES_NAME = "notes.json"


class ObjectBuild:
    """A half-written store on an object store, leased; parameters and errors as of `StoreWriter.create_or_resume`."""

    def __init__(self, path: RemotePath, fingerprint: Fingerprint, layout: StoreLayout, *, overwrite: bool) -> None:
        self.path = path
        self._folder = beside(path, PARTIAL_SUFFIX)
        self._head = {"fingerprint": fingerprint, "layout": layout.to_json()}
        self._marking = threading.Lock()
        self._lease = Lease(self._folder / LEASE_NAME, str(path))
        try:
            refuse_existing(path, fingerprint, overwrite=overwrite)  # it may have been finished before the lease was ours
            found = half_written_head(path)
            if found is not None and found["fingerprint"] != fingerprint and not overwrite:
                raise ExistsError(
                    f"{path} is half-written with other settings ({differences(found['fingerprint'], fingerprint)}); "
                    "finish it with those, or start again with --overwrite"
                )
            is_new = found != self._head or (path / "zarr.json").is_file()
            if is_new:
                self._clear()
            for level in range(len(layout.levels)):
                _put_json(path / str(level) / "zarr.json", layout.array_metadata(level))
            self._done: set[Triple] = set() if is_new else _uploaded(path)
            self._notes = [] if is_new else _read_notes(self._folder / NOTES_NAME)
        except BaseException:
            self._lease.close()
            raise

    @property
    def partial(self) -> RemotePath:
        """The folder of the head; its name tells the fingerprint."""
        return self._folder / _digest(self.fingerprint)

    @property
    def fingerprint(self) -> Fingerprint:
        """What makes the store."""
        found: dict[str, Any] = self._head["fingerprint"]
        return found

    @property
    def done(self) -> set[Triple]:
        """The shards that were there, and those that were marked since."""
        return self._done

    def mark_done(self, index: Triple) -> None:
        """Note that a shard is there: its object says so to others."""
        self._lease.check()
        with self._marking:
            self._done.add(index)

    @property
    def notes(self) -> list[dict[str, Any]]:
        """Those in the notes' object."""
        return self._notes

    def add_note(self, values: dict[str, Any]) -> None:
        """Write the notes' object anew."""
        self._lease.check()
        with self._marking:
            if values not in self._notes:
                self._notes.append(values)
                (self._folder / NOTES_NAME).write_text(json.dumps(self._notes))

    def publish(self, group: dict[str, Any]) -> None:
        """Write the group's metadata."""
        self._lease.check()
        _put_json(self.path / "zarr.json", group)
        (self._folder / NOTES_NAME).unlink(missing_ok=True)
        (self._folder / HEAD_NAME).unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Give the lease back.  An unfinished store stays for a later run."""
        self._lease.close()

    def _clear(self) -> None:
        head = self._folder / HEAD_NAME
        _put_json(head, {**self._head, "clearing": True})
        (self._folder / NOTES_NAME).unlink(missing_ok=True)
        (self.path / "zarr.json").unlink(missing_ok=True)
        self.path.remove_tree()
        self._lease.check()
        _put_json(head, self._head)


def _read_notes(path: RemotePath) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = parse_json(path.read_bytes(), list[dict[str, Any]], path)
    except FileNotFoundError:
        return []
    return found


def object_layout(partial: RemotePath) -> StoreLayout | None:
    """The layout of the half-written store whose `ObjectBuild.partial` this is; None if that is over."""
    found = half_written_head(_store(partial))
    if found is None or found.get("clearing") or _digest(found["fingerprint"]) != partial.name:
        return None
    return StoreLayout.from_json(found["layout"])


def put_object(partial: RemotePath, level: int, index: Triple, layout: StoreLayout, block: np.ndarray) -> None:
    """Upload the shard of one level."""
    edges = layout.levels[level]
    _store(partial).joinpath(str(level), "c", *map(str, index)).upload(
        lambda stream: write_shard_bytes(stream, block, chunk=edges.chunk, shard=edges.shard, codec=layout.codec)
    )


def _store(partial: RemotePath) -> RemotePath:
    folder = partial.parent
    if not folder.name.endswith(PARTIAL_SUFFIX):
        raise TomostreamError(f"{partial} is no store that is being written")
    return folder.with_name(folder.name.removesuffix(PARTIAL_SUFFIX))


def _uploaded(path: RemotePath) -> set[Triple]:
    """The level-0 shards that are there."""
    found: set[Triple] = set()
    for name in (path / "0" / "c").below():
        parts = name.split("/")
        if len(parts) == 3 and all(part.isdecimal() for part in parts):
            found.add(triple([int(part) for part in parts]))
    return found


def _digest(fingerprint: Fingerprint) -> str:
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]


def _put_json(path: RemotePath, values: dict[str, Any]) -> None:
    path.write_text(metadata_text(values))
