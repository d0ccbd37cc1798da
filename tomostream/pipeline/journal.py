"""What happened in a run, as one JSON object a line: `log.jsonl` of the project folder.

    {"time": "2026-11-23T01:02:03.456+0000", "event": "done", "stage": "predict", "tomogram": "TS_1", ...}

Events: `run` (pid, host), `stage`, `end`; of a tomogram `done` and `failed` (why); of its scores `shard` (which is done; 150 bytes each); `retried` (a task
that goes to another worker: why), `workers` (how many there are, and which are gone since the last look); and `message`, `warning`, `start`,
`finish` of what is said and followed.

A line is appended by one write to a file opened for appending, so that two writers never tear each other's lines.  Secrets of URLs are masked.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from tomostream.redaction import redacted

_HEAD_BYTES = 80  # time and event come first


class Event(TypedDict):
    """A line of the log, as far as it is read; each kind of event has facts of its own besides."""

    time: str
    event: str
    stage: NotRequired[str]
    tomogram: NotRequired[str | None]
    why: NotRequired[str]


class Journal:
    """A log that is being written.

    Parameters
    ----------
    path
        The file; made if there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stage: str | None = None

    def write(self, event: str, **facts: Any) -> None:
        """Append an event; the stage is that of the last event `stage`."""
        if event == "stage":
            self._stage = str(facts["stage"])
        now = time.time()
        stamp = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now))
            + f".{int(now % 1 * 1000):03d}"
            + time.strftime("%z", time.localtime(now))
        )
        values = {"time": stamp, "event": event, **({"stage": self._stage} if self._stage else {}), **facts}
        line = (redacted(json.dumps(values, default=str)) + "\n").encode()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            end = os.fstat(descriptor).st_size
            if os.write(descriptor, line) < len(line):  # a full disk takes the part that fits
                os.ftruncate(descriptor, end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        finally:
            os.close(descriptor)


def read_journal(path: Path, *, without: Sequence[str] = ()) -> Iterator[Event]:
    """The events of a log, less those of some kinds; lines that a kill or another program broke are passed over."""
    passed = tuple(f'"event": "{event}"'.encode() for event in without)
    try:
        with path.open("rb") as lines:
            for line in lines:
                head = line[:_HEAD_BYTES]
                if any(text in head for text in passed):  # there may be a million: not even parsed
                    continue
                try:
                    values = json.loads(line)
                except ValueError:
                    continue
                if isinstance(values, dict) and "event" in values and "time" in values:
                    yield cast(Event, values)
    except FileNotFoundError:
        return
