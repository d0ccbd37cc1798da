"""Has this been made from the same input with the same settings?  Fingerprints of sources, and sidecar records of cheap results.

A store's fingerprint holds what made it.  A table that is cheap to make again (picks) has a hidden JSON file beside it instead.

Limits: other software's stores are told apart by the number, sizes and dates of their files, by URL only by their metadata.  Secrets of a
URL are no part of a fingerprint: the next run's signature is another.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from tomostream.errors import ExistsError, InputError
from tomostream.redaction import redacted
from tomostream.remote.copies import local_file
from tomostream.remote.places import Place, RemotePath, place

if TYPE_CHECKING:
    from tomostream.tomogram import Tomogram


def file_sha256(path: Place) -> str:
    """Hash a file's content."""
    with local_file(path) as local, local.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def tomogram_fingerprint(tomogram: Tomogram) -> dict[str, Any]:
    """What identifies a tomogram's data: its own record of what made it, else its path and what its files are."""
    made_by = tomogram.attributes.get("fingerprint")
    if made_by is not None:
        return {"name": tomogram.name, "made_by": made_by}
    return {
        "name": tomogram.name,
        "path": os.path.abspath(tomogram.path) if "://" not in tomogram.path else redacted(tomogram.path),
        "shape": list(tomogram.shape),
        "dtype": str(tomogram.dtype),
        "files": _files(tomogram.path),
    }


def _files(path: str) -> dict[str, int]:
    """Number, bytes and newest time stamp (ns) of a local store's files; nothing for a URL."""
    found = {"number": 0, "bytes": 0, "newest": 0}
    for folder, _, names in os.walk(path):
        for name in names:
            status = os.stat(os.path.join(folder, name))
            found["number"] += 1
            found["bytes"] += status.st_size
            found["newest"] = max(found["newest"], status.st_mtime_ns)
    return found if found["number"] else {}


def refuse_other_kind(store: Place, kind: str | None) -> None:
    """Refuse to replace a store by one of another kind, whatever is asked: the output may be the input by mistake.

    Parameters
    ----------
    store
        Where a store is to be made.
    kind
        Of the new one: `labels`, `scores`; None: a tomogram.

    Raises
    ------
    ExistsError
        If there is a store of tomostream of another kind.
    """
    try:
        found = json.loads((store / "zarr.json").read_bytes())["attributes"]["tomostream"].get("kind")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return  # nothing of ours: `StoreWriter` never replaces that
    if found != kind:
        names = {"labels": "a label mask", "scores": "a score map", None: "a tomogram"}
        raise ExistsError(
            f"{store} is {names.get(found, found)}, which {names.get(kind, kind)} never replaces, not even with --overwrite; choose another output"
        )


def _sidecar(result: Place) -> Place:
    return result.with_name(f".{result.name}.made-by.json")


def is_made_by(result: Place, fingerprint: dict[str, Any]) -> bool:
    """Whether `result` was made from exactly this, and is as it was then."""
    try:
        recorded: object = json.loads(_sidecar(result).read_text())
    except (OSError, ValueError):
        return False
    return result.is_file() and recorded == {"fingerprint": fingerprint, "sha256": file_sha256(result)}


def record_made_by(result: Place, fingerprint: dict[str, Any]) -> None:
    """Remember what made `result`."""
    write_text_atomically(_sidecar(result), json.dumps({"fingerprint": fingerprint, "sha256": file_sha256(result)}, indent=1))


def write_text_atomically(path: Place, text: str) -> None:
    """Write a small text file so that it is either the old one or the whole new one.

    Raises
    ------
    InputError
        If the folder can't be written, or the disk is full.
    """
    path = place(path)  # a URL may come as a `Path`
    if isinstance(path, RemotePath):
        path.write_text(text)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path} can't be written: {error.strerror or error}; choose another folder or free some space") from None
