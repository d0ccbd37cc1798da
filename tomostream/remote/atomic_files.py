"""How is a small file written so that a kill or a power failure leaves either the old file or the new one?

1. Write it in the same folder under one temporary name, `.NAME.tmp`, so that the remains of a kill are overwritten.
2. Hold a lock (flock) on the temporary file, so that two writers of one file take turns.
3. Synchronise the file with the disk, rename it over the old one, then synchronise its folder: a rename that reached the disk
   before the content would leave an empty file.

On an object store a single upload has the same effect.

Limits: on file systems without locks two writers of one file can interfere.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tomostream.errors import BusyError, InputError
from tomostream.remote.lock_holders import holder_of
from tomostream.remote.places import Place, RemotePath, place

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)  # from file systems and folders that can't be synchronised
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
_WAIT_SECONDS, _PAUSE_SECONDS = 30.0, 0.02  # for another writer of the same small file


def write_atomically(path: Place, content: bytes | str) -> None:
    """Replace `path` by `content` (text as UTF-8), or leave it unchanged; create its folder if needed.

    Raises
    ------
    InputError
        If the folder can't be written or the disk is full.
    BusyError
        If another process has been writing it for half a minute.
    """
    path = place(path)  # a URL may come as a `Path`
    data = content.encode() if isinstance(content, str) else content
    if isinstance(path, RemotePath):
        path.write_bytes(data)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}; choose another folder, or free some space") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file to write; it replaces `path` when the block succeeds, and is removed otherwise.

    Raises
    ------
    OSError
        If it can't be written.
    BusyError
        If another process has been writing it for half a minute.
    """
    if path.name in ("", ".."):
        raise InputError(f"'{path}' is a folder, not a file that can be written; give the file's own name")
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = _locked(temporary)
    try:
        yield temporary
        synchronise(temporary)
        temporary.replace(path)
        synchronise(path.parent)
    except BaseException:
        remove_quietly(temporary)
        raise
    finally:
        os.close(descriptor)


def synchronise(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk.

    Raises
    ------
    OSError
        If the disk fails to write it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def synchronise_tree(folder: Path) -> None:
    """Wait until all files and folders below a folder, and the folder itself, are on the disk; the deepest first."""
    for here, _, names in os.walk(folder, topdown=False):
        for name in names:
            synchronise(Path(here, name))
        synchronise(Path(here))


def remove_quietly(path: Path) -> None:
    """Remove a file if possible; a missing file or a read-only folder is not an error."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _locked(temporary: Path) -> int:
    """Open the temporary file and lock it; try again if its holder renamed it meanwhile."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        if temporary.is_symlink():  # a stranger's, in a folder of many: what is written must not land where it points
            temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(temporary, descriptor):
                return descriptor
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return descriptor
            if not isinstance(error, BlockingIOError):
                os.close(descriptor)
                raise
        holder = holder_of(descriptor) if time.monotonic() > deadline else None
        os.close(descriptor)
        if holder is not None:
            raise BusyError(f"{temporary} is being written by {holder}; wait for it to finish, or stop it")
        time.sleep(_PAUSE_SECONDS)


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
