"""Which shards of a half-written store are done, and which process is writing it?

A ledger is a text file in the folder of the half-written store, one JSON object a line:

    {"format": 1, "fingerprint": ..., "layout": ...}     the head: what makes the store
    {"holder": {...}}             the process that opened it for writing (one line each time), for messages, and the boot of its machine
    {"note": {...}}               values to keep until the store is complete
    {"shard": [z, y, x]}          a finished shard
    {"lost": [z, y, x]}           a shard that was recorded as finished but was lost in a power failure

1. The writer holds an exclusive lock (flock) on the file; a second writer is refused.  The lock ends with the process.
2. A line is appended by one write, after the shard's files have their final names.
3. A process killed while it appends leaves a torn last line: reading stops there, and the next writer cuts it off.

4. Nothing is forced to the disk before the store is published, so a machine's own crash (not the process's) can lose shards that the ledger
   names.  A writer that resumes after a restart of the machine, or on another machine, must check them (`is_doubtful`).

Limits: on file systems without locks a second writer goes unnoticed.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import json
import os
import socket
import threading
from pathlib import Path
from typing import cast

from tomostream.errors import BusyError, InputError
from tomostream.geometry import Triple, triple
from tomostream.remote.lock_holders import holder_of
from tomostream.store.build_records import BuildHead, HolderRecord, LedgerLine, Note, checked_head
from tomostream.store.typed_json import json_object

LEDGER_NAME = "ledger.jsonl"
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP)


class Ledger:
    """An open, locked ledger.

    Parameters
    ----------
    path
        The file; created if it does not exist (its folder must exist).

    Raises
    ------
    BusyError
        If another writer holds it.
    InputError
        If a later version of tomostream wrote it.
    OSError
        If it can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._append_lock = threading.Lock()
        self._descriptor = _open_locked(path)
        lines, end = _whole_lines(_read_all(self._descriptor))
        try:
            self.head = _head(lines, path)
        except InputError:  # of a later version: nothing of it is cut off, and its lock does not stay with this process
            self.close()
            raise
        os.ftruncate(self._descriptor, end)
        rest = lines[1:] if self.head is not None else []
        self.done: set[Triple] = set()
        for line in rest:
            if "shard" in line:
                self.done.add(line["shard"])
            elif "lost" in line:
                self.done.discard(line["lost"])
        self.notes: list[Note] = [line["note"] for line in rest if "note" in line]
        holders = [line["holder"] for line in rest if "holder" in line]
        #: whether shards that are recorded as done may have been lost
        self.is_doubtful = bool(self.done) and any(holder.get("running_since") != _boot() for holder in holders[-1:])
        if self.head is not None and not self.is_doubtful:
            self._append_holder()

    def clear(self) -> None:
        """Forget everything.  Call it before shards are removed: a kill in between must not leave them recorded as done."""
        os.ftruncate(self._descriptor, 0)
        self.head = None
        self.done = set()
        self.notes = []
        self.is_doubtful = False

    def begin(self, head: BuildHead) -> None:
        """Write the head of an empty ledger."""
        self._append(cast(LedgerLine, head))
        self.head = head
        self._append_holder()

    def mark_done(self, index: Triple) -> None:
        """Record a shard whose files are in place; recording it twice is harmless."""
        with self._append_lock:
            if index not in self.done:
                self._append({"shard": index})
                self.done.add(index)

    def settle(self, lost: list[Triple]) -> None:
        """Record which of the shards that were recorded as done are lost; afterwards the ledger is reliable again."""
        for index in lost:
            self._append({"lost": index})
            self.done.discard(index)
        self._append_holder()
        self.is_doubtful = False

    def add_note(self, values: Note) -> None:
        """Record JSON values; recording them twice is harmless."""
        with self._append_lock:
            if values not in self.notes:
                self._append({"note": values})
                self.notes.append(values)

    def close(self) -> None:
        """Release the lock; the file stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append_holder(self) -> None:
        self._append({"holder": {"pid": os.getpid(), "host": socket.gethostname(), "running_since": _boot()}})

    def _append(self, line: LedgerLine) -> None:
        data = json.dumps(line).encode() + b"\n"
        end = os.fstat(self._descriptor).st_size
        written = os.write(self._descriptor, data)
        if written < len(data):  # a full disk accepts only the part that fits
            os.ftruncate(self._descriptor, end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_head(path: Path) -> BuildHead | None:
    """Read a ledger's head without a lock; None if there is no ledger or no whole head.

    Raises
    ------
    InputError
        If a later version of tomostream wrote it.
    """
    try:
        with path.open("rb") as handle:
            return _head(_whole_lines(handle.readline())[0], path)
    except OSError:
        return None


def _open_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lines, _ = _whole_lines(_read_all(descriptor))
            holders: list[HolderRecord] = [line["holder"] for line in lines if "holder" in line]
            holder = holders[-1] if holders else HolderRecord()
            known = {"pid", "host"} <= holder.keys()  # one that has just begun has not written its name yet
            who = holder_of(descriptor, *([f"another process (pid {holder['pid']} on {holder['host']})"] if known else []))
            os.close(descriptor)
            raise BusyError(
                f"{path.parent} is being written by {who}; wait for it to finish, or stop it (its finished work is kept)"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
        # the previous holder may have moved the folder between our open and our lock
        try:
            here = path.stat()
        except FileNotFoundError:
            here = None
        ours = os.fstat(descriptor)
        if here is not None and (here.st_dev, here.st_ino) == (ours.st_dev, ours.st_ino):
            return descriptor
        os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _whole_lines(data: bytes) -> tuple[list[LedgerLine], int]:
    """Return the leading complete lines of the kinds above, and where they end; shard indices become triples."""
    lines: list[LedgerLine] = []
    end = 0
    while (stop := data.find(b"\n", end)) >= 0:
        line = _parsed(data[end:stop])
        if line is None:
            break
        lines.append(line)
        end = stop + 1
    return lines, end


def _parsed(text: bytes) -> LedgerLine | None:
    line = json_object(text)
    if line is None:
        return None
    for key in ("shard", "lost"):
        if key in line:
            value = line[key]
            if not (isinstance(value, list) and len(value) == 3 and all(type(n) is int and n >= 0 for n in value)):
                return None
            line[key] = triple(value)
    is_broken = any(not isinstance(line.get(key, {}), dict) for key in ("holder", "note", "fingerprint", "layout"))
    return None if is_broken else cast(LedgerLine, line)


def _head(lines: list[LedgerLine], path: Path) -> BuildHead | None:
    return checked_head(dict(lines[0]), path) if lines and "fingerprint" in lines[0] else None


@functools.cache
def _boot() -> str:
    """Identify this machine and its current boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()  # not Linux: a crash of the machine can't be distinguished from one of the process
