"""How is work limited to one process at a time?  By an exclusive lock on a file, which ends with the process that holds it.

Limits: on file systems without locks a second process goes unnoticed.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tomostream.errors import BusyError
from tomostream.remote.links import refuse_links
from tomostream.remote.lock_holders import holder_of

_TRIES, _PAUSE_SECONDS = 4, 0.05


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold a lock while the block runs.

    Parameters
    ----------
    path
        The file; created if it does not exist, and never removed.
    what
        What is locked, for the message.

    Raises
    ------
    BusyError
        If another process holds it.
    InputError
        If the file is a link.
    """
    refuse_links([path], what)
    with path.open("a+") as handle:
        try:
            _lock(handle.fileno())
        except BlockingIOError:
            handle.seek(0)
            holder = holder_of(handle.fileno(), handle.read().strip() or "another process")
            raise BusyError(f"{what} is in use by {holder}; wait until it finishes, or stop it") from None
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        yield


def _lock(descriptor: int) -> None:
    """Take the lock; `status` holds it for a moment when it checks, so try a few times."""
    for _ in range(_TRIES - 1):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)
        else:
            return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
