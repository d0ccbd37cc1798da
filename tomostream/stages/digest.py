"""Has this been made from the same input with the same settings?  Fingerprints of sources, and sidecar records of cheap results.

A store's fingerprint holds what made it.  A table that is cheap to make again (picks) has a hidden JSON file beside it instead.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from tomostream.errors import InputError
from tomostream.tomogram import Tomogram


def file_sha256(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def tomogram_fingerprint(tomogram: Tomogram) -> dict[str, Any]:
    """What identifies a tomogram's data: its own record of what made it, else its path, shape and metadata."""
    made_by = tomogram.attributes.get("fingerprint")
    if made_by is not None:
        return {"name": tomogram.name, "made_by": made_by}
    return {
        "name": tomogram.name,
        "path": tomogram.path,
        "shape": list(tomogram.shape),
        "dtype": str(tomogram.dtype),
        "modified": _modified(tomogram.path),
    }


def _modified(path: str) -> int | None:
    """The newest time stamp of a local store's metadata files (ns); None for a URL."""
    folder = Path(path)
    if not folder.exists():
        return None
    return max(
        (f.stat().st_mtime_ns for pattern in ("zarr.json", ".z*", "*/zarr.json", "*/.z*") for f in folder.glob(pattern)), default=None
    )


def _sidecar(result: Path) -> Path:
    return result.with_name(f".{result.name}.made-by.json")


def is_made_by(result: Path, fingerprint: dict[str, Any]) -> bool:
    """Whether `result` exists and was made from exactly this."""
    try:
        recorded: object = json.loads(_sidecar(result).read_text())
    except (OSError, ValueError):
        return False
    return result.exists() and recorded == {"fingerprint": fingerprint, "size": result.stat().st_size}


def record_made_by(result: Path, fingerprint: dict[str, Any]) -> None:
    """Remember what made `result`."""
    write_text_atomically(_sidecar(result), json.dumps({"fingerprint": fingerprint, "size": result.stat().st_size}, indent=1))


def write_text_atomically(path: Path, text: str) -> None:
    """Write a small text file so that it is either the old one or the whole new one.

    Raises
    ------
    InputError
        If the folder can't be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path} can't be written: {error.strerror or error}; choose another folder or free some space") from None
