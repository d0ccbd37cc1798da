"""How is a small file written so that a kill, or a power loss, leaves the old one or the new one?

1. It is written beside its place under one temporary name, `.NAME.tmp`: what a kill left there is written over, not collected.
2. Who writes holds a lock (flock) on the temporary file, so that two that write the same file do so one after the other.
3. The file is synchronised with the disk, then renamed over the old one, then its folder is synchronised: a rename that reached the disk
   before the content did would leave an empty file.

On an object store one upload does all this.

Limits: on file systems that know no locks two writers of one file can mix.
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

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)  # of file systems and folders that can't be synchronised
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
_WAIT_SECONDS, _PAUSE_SECONDS = 30.0, 0.02  # for another writer of the same small file


def write_atomically(path: Place, content: bytes | str) -> None:
    """Replace `path` by `content` (text as UTF-8), or leave it as it was; its folder is made if need be.

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
        raise InputError(f"{path} can't be written: {error.strerror or error}; choose another folder or free some space") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file to write; it replaces `path` when the block ends well, and is removed otherwise.

    Raises
    ------
    OSError
        If it can't be written.
    BusyError
        If another process has been writing it for half a minute.
    """
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
        If the disk refuses what was written.
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
    """Remove a file that may not be there, in a folder that may not be writable: what else was done is not worth less for it."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _locked(temporary: Path) -> int:
    """Open the temporary file and lock it; the one who holds it may rename it meanwhile, and then it is another's."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
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
            raise BusyError(f"{temporary} is being written by {holder}; wait for it to end, or stop it")
        time.sleep(_PAUSE_SECONDS)


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
