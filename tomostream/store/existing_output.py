"""What already exists at the path where a store is to be written, and may it be replaced?

A finished store of ours records the fingerprint of what made it in its group's metadata, which are written last.  A half-written store
keeps its fingerprint beside it (suffix `.partial`): in its ledger, or on an object store in its head.  Nothing else is ever
replaced.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Literal, TypeVar

from tomostream.errors import ExistsError, InputError
from tomostream.fingerprint import Fingerprint, differences, plain
from tomostream.remote.atomic_files import remove_quietly
from tomostream.remote.places import Place, RemotePath
from tomostream.store.build_records import BuildHead, checked_head
from tomostream.store.identity import is_same_identity
from tomostream.store.ledger import LEDGER_NAME, read_head
from tomostream.store.records import Attributes
from tomostream.store.typed_json import json_object
from tomostream.store.zarr_opening import PARTIAL_SUFFIX

REPLACED_SUFFIX = ".replaced"  # of an old store, after the new one is complete and before the old one is removed

HEAD_NAME = "head.json"  # of a half-written store on an object store: its fingerprint and layout

P = TypeVar("P", Path, RemotePath)
StoreState = Literal["absent", "done", "partial", "other"]


def store_state(path: Place, fingerprint: Fingerprint) -> StoreState:
    """Compare what exists at `path` with what `fingerprint` would make.

    Returns
    -------
    `done`: finished with the same fingerprint.  `other`: something else exists there, or it is half-written with another fingerprint.
    `partial`: half-written with the same fingerprint.  `absent`: nothing that must be kept.

    Remains of a `finish` that was killed at its last step are removed.
    """
    found = finished_fingerprint(path)
    if found is not None and is_same_identity(found, plain(fingerprint)):
        if isinstance(path, Path):
            remove_quietly(path / LEDGER_NAME)
            shutil.rmtree(beside(path, REPLACED_SUFFIX), ignore_errors=True)
        return "done"
    if _is_there(path):
        return "other"
    head = half_written_head(path)
    if head is None:
        return "absent"
    return "partial" if is_same_identity(head["fingerprint"], plain(fingerprint)) else "other"


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder, into which another process may be writing; 0 where there is none."""
    total = 0
    for root, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(root, file)).st_size
    return total


def beside(path: P, suffix: str) -> P:
    """Return the path with a suffix appended to its name."""
    if path.name in ("", ".."):
        raise InputError(f"'{path}' has no name of its own, so no store can be made there; give the store's own path")
    return path.with_name(path.name + suffix)


def half_written_head(path: Place) -> BuildHead | None:
    """Return the head (fingerprint and layout) of the half-written store that will become `path`; None if there is none.

    Raises
    ------
    InputError
        If a later version of tomostream wrote it.
    """
    if isinstance(path, Path):
        return read_head(beside(path, PARTIAL_SUFFIX) / LEDGER_NAME)
    try:
        found = json_object((beside(path, PARTIAL_SUFFIX) / HEAD_NAME).read_bytes())
    except FileNotFoundError:
        return None
    return (
        checked_head(found, f"{path}{PARTIAL_SUFFIX}/{HEAD_NAME}")
        if found is not None and isinstance(found.get("fingerprint"), dict)
        else None
    )


def adopted(path: Place, fingerprint: Fingerprint) -> Fingerprint:
    """The fingerprint as JSON gives it back; or that of what is there, finished or half-written, if it means the same."""
    wanted, head = plain(fingerprint), half_written_head(path)
    for found in (finished_fingerprint(path), None if head is None else head["fingerprint"]):
        if found is not None and is_same_identity(found, wanted):
            return found
    return wanted


def _is_there(path: Place) -> bool:
    """Whether something exists under the name itself; shards of a half-written store on an object store don't count."""
    if isinstance(path, Path):
        return os.path.lexists(path)
    return path.exists() if half_written_head(path) is None else (path / "zarr.json").is_file()


def finished_fingerprint(path: Place) -> Fingerprint | None:
    """Return the fingerprint of a finished store of ours; None for anything else."""
    ours = own_attributes(path)
    found = ours.get("fingerprint") if ours.get("complete") is True else None
    return found if isinstance(found, dict) else None


def own_attributes(path: Place) -> Attributes:
    """Return the attribute `tomostream` of the store at `path`, unchecked; empty for anything else."""
    try:
        group = json_object((path / "zarr.json").read_bytes())
    except OSError:
        return {}
    attributes = (group or {}).get("attributes")
    ours = attributes.get("tomostream") if isinstance(attributes, dict) else None
    return ours if isinstance(ours, dict) else {}


def refuse_existing(path: Place, fingerprint: Fingerprint, *, overwrite: bool) -> None:
    """Refuse to write to `path` if something exists there that must be kept.

    Raises
    ------
    ExistsError
        If something that is not ours exists there, or a finished store exists and `overwrite` is false.
    """
    if not _is_there(path):
        return
    found = finished_fingerprint(path)
    if found is None:
        raise ExistsError(
            f"{path} exists and is not a store that tomostream finished, so it is never replaced; move it away or choose another folder"
        )
    if not overwrite:
        what = (
            "is finished already" if found == fingerprint else f"was made with other settings or data ({differences(found, fingerprint)})"
        )
        raise ExistsError(f"{path} {what}; choose another folder, or replace it with --overwrite")


def refuse_other_settings(path: Place, fingerprint: Fingerprint) -> None:
    """Refuse, before any work, to write where `store_state` is `other`; the message names the settings that differ.

    Raises
    ------
    ExistsError
        If something else exists at `path`, or half-written beside it.
    """
    wanted = plain(fingerprint)
    if _is_there(path):
        if not is_same_identity(finished_fingerprint(path), wanted):
            refuse_existing(path, wanted, overwrite=False)
        return
    head = half_written_head(path)
    if head is not None and not is_same_identity(head["fingerprint"], wanted):
        raise ExistsError(
            f"{path}{PARTIAL_SUFFIX} is half-written with other settings or data ({differences(head['fingerprint'], wanted)}); "
            "finish it with those, or start again with --overwrite"
        )
