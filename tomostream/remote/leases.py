"""How is writing limited to one process where there are no locks?  By a lease: an object that its holder renews.

    NAME.ome.zarr.partial/lease.json   {"owner": ..., "beat": 17, "host": ..., "machine": ..., "pid": ..., "started": ...}

1. The object is created by a conditional write: of two processes that try, one succeeds.
2. Its holder writes it again, with a higher beat, every `BEAT_SECONDS`, and checks that it still owns it.
3. A run that finds a lease knows at once whether the holder is alive, if that is on the same machine.  Otherwise it watches the object: when its beat
   changes, the holder is alive, and the run refuses; when it does not change for `LEASE_SECONDS`, the holder is dead, and the lease is
   taken over.  Clocks of different machines are never compared.
4. A run that took over waits a moment and reads the object again: of two that took over at once, the later one wins.
5. A holder that finds another owner, or can't renew for `LEASE_SECONDS`, has lost the lease: `check` raises before its next step.

Limits: on servers without conditional writes, only step 4 separates two processes that start at the same moment.  A process that was stopped
for longer than the lease, in the middle of an upload, can still finish that upload.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypedDict, cast

import psutil

from tomostream.errors import BusyError, TomostreamError
from tomostream.remote.places import RemotePath

BEAT_SECONDS = 15.0
LEASE_SECONDS = 60.0
SETTLE_SECONDS = 1.0  # between taking over and checking whether another run did too
_LOOK_SECONDS = 2.0


class Holder(TypedDict, total=False):
    """The process that holds a lease, as its object says; one of another version may say less."""

    owner: str
    pid: int
    host: str
    machine: str
    started: float
    ticks: int | None
    beat: int


class Lease:
    """The right to write below a URL while the lease is open; a context manager.

    Parameters
    ----------
    path
        The lease's object.
    what
        What is leased, for messages.

    Raises
    ------
    BusyError
        If another process that is alive holds it.
    """

    def __init__(self, path: RemotePath, what: str) -> None:
        self._path, self._what = path, what
        self._beat = 0
        self._owner = uuid.uuid4().hex
        self._record: Holder = {"owner": self._owner, **_self()}
        self._renewed = time.monotonic()
        self._fault: TomostreamError | None = None
        self._end = threading.Event()
        self._acquire()
        self._thread = threading.Thread(target=self._renew, name=f"tomostream-lease-{path.name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Refuse to continue without the lease.

        Raises
        ------
        BusyError
            If another process has taken it over.
        TomostreamError
            If it could not be renewed in time.
        """
        if self._fault is not None:
            raise self._fault
        if time.monotonic() - self._renewed > LEASE_SECONDS:
            raise TomostreamError(
                f"{self._what}: the server could not be reached for {LEASE_SECONDS:.0f} s, so another run may have taken over; finished work is "
                "kept: run the same command again"
            )

    def close(self) -> None:
        """Release the lease, if it is still ours."""
        if self._end.is_set():
            return
        self._end.set()
        self._thread.join(timeout=BEAT_SECONDS)  # it may be waiting for a server that does not answer
        with suppress(TomostreamError, OSError):  # else the next run waits until the lease expires
            found = self._read()
            if found is not None and found.get("owner") == self._owner:
                self._path.unlink(missing_ok=True)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _acquire(self) -> None:
        while not self._path.create(self._content()):
            found = self._read()
            if found is None:
                continue  # it was released meanwhile
            self._wait_for_its_end(found)
            self._write()
            time.sleep(SETTLE_SECONDS)
            now = self._read()
            if now is not None and now.get("owner") == self._owner:
                return
            if now is not None:
                raise self._busy(now)

    def _wait_for_its_end(self, first: Holder) -> None:
        """Return when the holder of the lease is known to be dead."""
        if first.get("machine") == self._record["machine"]:
            if _lives(first):
                raise self._busy(first)
            return
        deadline = time.monotonic() + LEASE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
            found = self._read()
            if found is None:
                return
            if found != first:
                raise self._busy(found)

    def _busy(self, holder: Holder) -> BusyError:
        return BusyError(
            f"{self._what} is being written by another process (pid {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}); "
            "wait for it to finish, or stop it (its finished work is kept)"
        )

    def _renew(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            try:
                found = self._read()
                if found is not None and found.get("owner") != self._owner:
                    self._fault = self._busy(found)
                    return
                self._write()
            except (TomostreamError, OSError):
                continue  # `check` raises when this lasts too long

    def _write(self) -> None:
        self._beat += 1
        self._path.write_bytes(self._content())
        self._renewed = time.monotonic()

    def _content(self) -> bytes:
        return json.dumps({**self._record, "beat": self._beat}).encode()

    def _read(self) -> Holder | None:
        try:
            found = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            return {}  # not ours, or of another version: watch it like any other
        return cast(Holder, found) if isinstance(found, dict) else {}


def _self() -> Holder:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "machine": _machine(),
        "started": psutil.Process().create_time(),
        "ticks": _ticks(os.getpid()),
    }


def _machine() -> str:
    """Identify the machine's current boot and its namespace of process ids (containers have their own)."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _lives(holder: Holder) -> bool:
    """Return whether the process in a record of this machine still runs."""
    try:
        pid, ticks = int(holder["pid"]), holder.get("ticks")
        if ticks is not None:
            return _ticks(pid) == ticks
        return bool(
            psutil.Process(pid).create_time() == holder["started"]
        )  # the record of an earlier version, or of a system without /proc
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError, OverflowError):
        return False


def _ticks(pid: int) -> int | None:
    """Return when a process started, in ticks of the kernel since its boot; None if there is no such process.

    The time of day at which it started would change whenever the machine's clock is set, and a living holder would pass for dead.
    """
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None
