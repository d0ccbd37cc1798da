"""How is a store built on an object store, without renaming, appending or locks?  In place; its last object makes it visible.

    NAME.ome.zarr.partial/lease.json    the process that writes it (`remote.leases`)
    NAME.ome.zarr.partial/head.json     fingerprint and layout: written before any shard
    NAME.ome.zarr.partial/notes.json    values to keep until the store is complete
    NAME.ome.zarr/0/zarr.json ...       the level arrays' metadata
    NAME.ome.zarr/0/c/z/y/x             a shard: one upload, either complete or absent
    NAME.ome.zarr/zarr.json             the group's metadata: written last; only they make it a store

1. A new build takes the lease, writes a head that says `"clearing": true`, removes the old store's group metadata, then all its objects,
   and writes the final head.  If it is killed in between, the next build clears again, so no shard of other settings remains.
2. The ledger is the listing of level 0: a shard is uploaded at its coarsest level first, so that one at level 0 is done at all levels.  A
   resumed build lists them once, a thousand per request; nothing else is ever listed.
3. A worker reads the head before it writes a shard, and compares the fingerprint's digest in `partial`'s name: a worker left over from a run with
   other settings is refused.
4. `publish` writes the group's metadata, then removes the head and the lease.

Limits: a store that is replaced is removed when its successor begins, not when that is complete.  A multipart upload (shards above 16 MB) that
is killed leaves parts behind, which the bucket's lifecycle rule removes (docs/storage.md).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping

import numpy as np

from tomostream.errors import ExistsError, TomostreamError
from tomostream.fingerprint import Fingerprint, differences
from tomostream.geometry import Triple, triple
from tomostream.remote.leases import Lease
from tomostream.remote.places import RemotePath
from tomostream.store.build_records import Note, is_same_build, new_head
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
        self._head = new_head(fingerprint, layout.to_json())
        self._marking = threading.Lock()
        self._lease = Lease(self._folder / LEASE_NAME, str(path))
        try:
            refuse_existing(path, fingerprint, overwrite=overwrite)  # another process may have finished it before we got the lease
            found = half_written_head(path)
            if found is not None and found["fingerprint"] != fingerprint and not overwrite:
                raise ExistsError(
                    f"{path} is half-written with other settings ({differences(found['fingerprint'], fingerprint)}); "
                    "finish it with those, or start again with --overwrite"
                )
            is_new = not is_same_build(found, self._head) or (path / "zarr.json").is_file()
            if is_new:
                self._clear()
            for number, (name, _) in enumerate(layout.arrays):
                _put_json(path / name / "zarr.json", layout.array_metadata(number))
            self._done: set[Triple] = set() if is_new else _uploaded(path)
            self._notes = [] if is_new else _read_notes(self._folder / NOTES_NAME)
        except BaseException:
            self._lease.close()
            raise

    @property
    def partial(self) -> RemotePath:
        """The folder of the head; its name holds the fingerprint's digest."""
        return self._folder / _digest(self.fingerprint)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of what makes the store."""
        return self._head["fingerprint"]

    @property
    def done(self) -> set[Triple]:
        """The shards that existed at the start, and those marked since."""
        return self._done

    def mark_done(self, index: Triple) -> None:
        """Record that a shard is written; other processes see its object."""
        self._lease.check()
        with self._marking:
            self._done.add(index)

    @property
    def notes(self) -> list[Note]:
        """The notes in the notes object."""
        return self._notes

    def add_note(self, values: Note) -> None:
        """Write the notes object again."""
        self._lease.check()
        with self._marking:
            if values not in self._notes:
                self._notes.append(values)
                (self._folder / NOTES_NAME).write_text(json.dumps(self._notes))

    def publish(self, group: Mapping[str, object]) -> None:
        """Write the group's metadata."""
        self._lease.check()
        _put_json(self.path / "zarr.json", group)
        (self._folder / NOTES_NAME).unlink(missing_ok=True)
        (self._folder / HEAD_NAME).unlink(missing_ok=True)
        self.close()

    def forget(self) -> None:
        """Remove all shards."""
        self._clear()
        with self._marking:
            self._done.clear()

    def close(self) -> None:
        """Release the lease.  An unfinished store stays for a later run."""
        self._lease.close()

    def _clear(self) -> None:
        head = self._folder / HEAD_NAME
        _put_json(head, {**self._head, "clearing": True})
        (self._folder / NOTES_NAME).unlink(missing_ok=True)
        (self.path / "zarr.json").unlink(missing_ok=True)
        self.path.remove_tree()
        self._lease.check()
        _put_json(head, self._head)


def _read_notes(path: RemotePath) -> list[Note]:
    try:
        found: list[Note] = parse_json(path.read_bytes(), list[Note], path)
    except FileNotFoundError:
        return []
    return found


def object_layout(partial: RemotePath) -> StoreLayout | None:
    """Return the layout of the half-written store with this `ObjectBuild.partial`; None if it is finished or gone."""
    found = half_written_head(_store(partial))
    if found is None or found.get("clearing") or _digest(found["fingerprint"]) != partial.name:
        return None
    return StoreLayout.from_json(found["layout"])


def put_object(partial: RemotePath, number: int, index: Triple, layout: StoreLayout, block: np.ndarray) -> None:
    """Upload the shard of one of the `arrays`."""
    path, edges = layout.arrays[number]
    _store(partial).joinpath(path, "c", *map(str, index)).upload(
        lambda stream: write_shard_bytes(stream, block, chunk=edges.chunk, shard=edges.shard, codec=layout.codec)
    )


def _store(partial: RemotePath) -> RemotePath:
    folder = partial.parent
    if not folder.name.endswith(PARTIAL_SUFFIX):
        raise TomostreamError(f"{partial} is not a store that is being written; another process finished or removed it")
    return folder.with_name(folder.name.removesuffix(PARTIAL_SUFFIX))


def _uploaded(path: RemotePath) -> set[Triple]:
    """Return the level-0 shards that exist."""
    found: set[Triple] = set()
    for name in (path / "0" / "c").below():
        parts = name.split("/")
        if len(parts) == 3 and all(part.isdecimal() for part in parts):
            found.add(triple([int(part) for part in parts]))
    return found


def _digest(fingerprint: Fingerprint) -> str:
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]


def _put_json(path: RemotePath, values: Mapping[str, object]) -> None:
    path.write_text(metadata_text(values))
