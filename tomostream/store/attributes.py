"""How are the attributes of a finished store changed, while others read it or change it too?

1. Lock the group's `zarr.json` (flock).  A process that had to wait checks whether the file was replaced meanwhile; if so, it starts over.
2. Write the changed file beside it and rename it: a reader sees either the old file or the new one.
3. On an object store, use a lease instead of the lock, and one upload instead of the renaming.

Limits: only stores that tomostream made.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable

from tomostream.errors import BusyError, InputError
from tomostream.remote.atomic_files import replacing
from tomostream.remote.leases import LEASE_SECONDS, Lease
from tomostream.remote.places import Place, RemotePath
from tomostream.store.records import Attributes
from tomostream.store.seals import SEAL, metadata_text, sealed_group
from tomostream.store.typed_json import json_object

_LOOK_SECONDS = 0.2  # between two attempts to get a lease; others hold it only briefly


def change_attributes(path: Place, change: Callable[[Attributes], None]) -> None:
    """Apply `change` to the attribute `tomostream` of the finished store at `path`.

    Raises
    ------
    InputError
        If the store is not one that tomostream finished, or can't be written.
    """
    if isinstance(path, RemotePath):
        _change_remote(path, change)
        return
    metadata = path / "zarr.json"
    try:
        while True:
            with metadata.open("r+b") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if not os.path.samestat(os.fstat(handle.fileno()), metadata.stat()):
                    continue
                changed = _changed(handle.read(), path, change)
                with replacing(metadata) as temporary:
                    temporary.write_text(changed)
                return
    except (FileNotFoundError, NotADirectoryError):
        raise _foreign(path) from None
    except OSError as error:
        raise InputError(
            f"{metadata} can't be written: {error.strerror or error}; change its permissions, or write the statistics to another folder (-o DIR)"
        ) from None


def _change_remote(path: RemotePath, change: Callable[[Attributes], None]) -> None:
    deadline = time.monotonic() + LEASE_SECONDS
    while True:
        try:
            with Lease(path.with_name(f"{path.name}.attributes-lease.json"), str(path)):
                text = (path / "zarr.json").read_bytes()
                (path / "zarr.json").write_text(_changed(text, path, change))
            return
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_SECONDS)
        except FileNotFoundError:
            raise _foreign(path) from None


def _changed(text: bytes, path: Place, change: Callable[[Attributes], None]) -> str:
    """Return the group's metadata with the change, as text."""
    group = json_object(text) or {}
    attributes = group.get("attributes")
    ours = attributes.get("tomostream") if isinstance(attributes, dict) else None
    if not isinstance(ours, dict) or ours.get("complete") is not True:
        raise _foreign(path)
    is_sealed = SEAL in ours
    change(ours)
    return metadata_text(sealed_group(group) if is_sealed else group)


def _foreign(path: Place) -> InputError:
    return InputError(
        f"{path} was not made by tomostream, and stores of other software are never changed; write the statistics to another folder (-o DIR)"
    )
