"""Who holds a lock (flock) on a file of this machine?  The kernel's list says it (Linux: /proc/locks); what was written into a file may be late."""

from __future__ import annotations

import os
import socket
from pathlib import Path

_LIST = Path("/proc/locks")


def holder_of(descriptor: int, recorded: str = "another process") -> str:
    """Name the process that holds a lock on an open file, as `another process (pid 12 on host)`; `recorded` where the kernel does not know it."""
    found = os.fstat(descriptor)
    key = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        lines = _LIST.read_text().splitlines()
    except OSError:
        return recorded
    for line in lines:
        fields = line.split()  # 1: FLOCK ADVISORY WRITE 1234 fe:00:5678 0 EOF; a waiting process has -> before FLOCK
        if fields[1:2] == ["FLOCK"] and fields[5:6] == [key] and fields[4] not in ("0", str(os.getpid())):
            return f"another process (pid {fields[4]} on {socket.gethostname()})"
    return recorded
