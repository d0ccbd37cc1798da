"""Write a small file so that a kill leaves the old one or the new one: beside it, synchronised, then renamed over it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tomostream.errors import InputError
from tomostream.remote.places import Place, RemotePath, place

if TYPE_CHECKING:
    pass


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, or leave it as it was; its folder is made if need be.

    Raises
    ------
    InputError
        If the folder can't be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.tmp")  # always the same name: what a kill left is replaced, not collected
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        remove_quietly(temporary)
        raise InputError(f"{path} can't be written: {error.strerror or error}; choose another folder or free some space") from None


def remove_quietly(path: Path) -> None:
    """Remove a file that may not be there, in a folder that may not be writable."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


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
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path} can't be written: {error.strerror or error}; choose another folder or free some space") from None
