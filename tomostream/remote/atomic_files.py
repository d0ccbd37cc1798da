"""How is a small file written so that a kill leaves the old one or the new one?  Beside it, synchronised, then renamed over it."""

import os
from pathlib import Path

from tomostream.errors import InputError


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
