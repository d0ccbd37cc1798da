"""Is this file, or this folder from other software, still the same?  Content decides, not path or time, so that a copy counts as the same.

1. A file: its name, its size, and a hash; of a large file the hash of its first megabyte and of pieces evenly spread over the rest.
2. A folder (a store of other software): the number and bytes of its files, and a hash of every name and size, of all metadata, and of the
   chunks; of a large store of evenly chosen chunks, again by pieces.
3. `is_same_identity` compares a recorded identity with the present one; it also reads the records of tomostream 0.1, which held times and paths.

Limits: a change of a large file or store that touches none of the hashed pieces and no size goes unnoticed.  Reprocessing changes all voxels.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NotRequired, TypedDict

FIRST_BYTES = 2**20
WHOLE_BYTES = 2**24  # up to this size a file is hashed completely
_PIECES, _PIECE_BYTES = 64, 2**14
_FOLDER_WHOLE_BYTES = 2**26  # up to this size all chunks of a folder are hashed
_CHUNKS = 256  # of a larger folder
_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


class SourceIdentity(TypedDict):
    """What identifies the content of a file; of a remote object, its size and the tag or date that the server gives."""

    name: str
    size: int | None
    sha256_of_first_mb: str
    sha256_of_pieces: NotRequired[str]
    tag: NotRequired[str | None]


class FolderIdentity(TypedDict):
    """What identifies the content of a folder: the number and bytes of its files, and a hash."""

    number: int
    bytes: int
    sha256: str


def file_identity(path: Path) -> SourceIdentity:
    """Return what identifies a file's content.

    Raises
    ------
    OSError
        If it can't be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        first = hashlib.sha256(file.read(FIRST_BYTES)).hexdigest()
    return {"name": path.name, "size": size, "sha256_of_first_mb": first, "sha256_of_pieces": _digest(path, size)}


def folder_identity(path: Path) -> FolderIdentity:
    """Return what identifies the content of the files below a folder.

    Raises
    ------
    OSError
        If they can't be read.
    """
    sizes: dict[str, int] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            sizes[os.path.relpath(file, path)] = os.stat(file).st_size
    total = sum(sizes.values())
    digest = hashlib.sha256()
    chunks = sorted(name for name in sizes if os.path.basename(name) not in _METADATA)
    step = 1 if total <= _FOLDER_WHOLE_BYTES else -(-len(chunks) // _CHUNKS)
    looked_at = set(chunks[::step])
    for name in sorted(sizes):
        digest.update(f"{name}\0{sizes[name]}\0".encode(errors="surrogateescape"))
        if name in looked_at or name not in chunks:
            digest.update(_digest(path / name, sizes[name]).encode())
    return {"number": len(sizes), "bytes": total, "sha256": digest.hexdigest()}


def is_same_identity(found: object, wanted: object) -> bool:
    """Whether a recorded identity matches the present one; both are JSON values.

    Equal values do.  Of what 0.1 recorded: a source file with a time is the one of the same name, size and first megabyte; tables of clicks
    that are named by their paths are those of the same hashes; a store of other software is the same if it still lies where it was, as it was.
    """
    if isinstance(found, dict) and isinstance(wanted, dict):
        if "mtime_ns" in found and "mtime_ns" not in wanted:
            return all(found.get(key) == wanted.get(key) for key in ("name", "size", "sha256_of_first_mb"))
        if "files" in found and "content" in wanted:
            return all(found.get(key) == wanted.get(key) for key in ("name", "shape", "dtype")) and _is_as_it_was(found)
        return found.keys() == wanted.keys() and all(is_same_identity(found[key], wanted[key]) for key in found)
    if isinstance(found, dict) and isinstance(wanted, list):
        return list(found.values()) == wanted
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(is_same_identity, found, wanted))
    return found == wanted


def _digest(path: Path, size: int) -> str:
    """Return the hash of a file's content, or of pieces of it."""
    with path.open("rb") as file:
        if size <= WHOLE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        for number in range(_PIECES):
            file.seek((size - _PIECE_BYTES) * number // (_PIECES - 1))
            digest.update(file.read(_PIECE_BYTES))
        return digest.hexdigest()


def _is_as_it_was(found: Mapping[str, object]) -> bool:
    """Whether a store that 0.1 recorded by path, and number, bytes and newest time of its files, lies there so."""
    path, files = found.get("path"), found.get("files")
    if not isinstance(path, str) or not isinstance(files, dict) or "\0" in path:
        return False
    number = total = newest = 0
    for folder, _, names in os.walk(path):
        for name in names:
            status = os.stat(os.path.join(folder, name))
            number, total, newest = number + 1, total + status.st_size, max(newest, status.st_mtime_ns)
    return number > 0 and files == {"number": number, "bytes": total, "newest": newest}
