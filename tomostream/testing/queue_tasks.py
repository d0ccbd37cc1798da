"""Tasks of `QueueTests`, in a module that workers can import."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

from tomostream.errors import InputError


def where(number: int) -> tuple[str, int]:
    """Return the host and the process that this runs in."""
    time.sleep(0.05)  # so that one worker does not take all
    return socket.gethostname(), os.getpid()


def refuse_odd(number: int) -> int:
    """Return an even number; raise InputError for an odd one."""
    if number % 2:
        raise InputError(f"{number} is odd")
    return number


def die_once(mark: str) -> str:
    """Kill this process at the first call; return "done" at the second."""
    path = Path(mark)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"
