"""One process at a time: an exclusive lock on a file, which dies with the process that holds it.

Limits: on file systems that know no locks a second process is not noticed.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tomostream.errors import BusyError


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold a lock while the block runs.

    Parameters
    ----------
    path
        The file; made if there is none, and left there.
    what
        What is locked, for the message.

    Raises
    ------
    BusyError
        If another process holds it.
    """
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise BusyError(f"{what} is in work by {holder}; wait until it is done, or stop it") from None
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        yield
