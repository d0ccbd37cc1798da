"""The journal of a run: `log.jsonl` in the project folder, one JSON object per line.

    {"time": "2026-11-23T01:02:03.456+0000", "event": "done", "stage": "predict", "tomogram": "TS_1", ...}

Events: `run` (format, pid, host), `stage`, `end`; for a tomogram `done` and `failed` (why); for a score map `shard` (one that is finished);
`chosen` (how many picks of a map the scores chose, with F1 and precision that are to be expected, or why they can't be told);
`retried` (a task goes to another worker, and why); `workers` (how many there are, and which have gone since the last check); and the
lines of the console: `message`, `warning`, and `start` and `finish` of a progress bar.

Each line is one write to a file opened for appending, so that two writers never mix their lines.  Secrets in URLs are masked.
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
from tomostream.remote.links import refuse_links
from tomostream.store.typed_json import check_format

JOURNAL_FORMAT = 1  # of the lines that follow an event `run`, which says it; version 0.1 does not
_HEAD_BYTES = 80  # time and event come first in a line


class Event(TypedDict):
    """A line of the journal: the keys that are read back.  Each kind of event has further keys of its own."""

    time: str
    event: str
    stage: NotRequired[str]
    format: NotRequired[int]
    tomogram: NotRequired[str | None]
    why: NotRequired[str]
    map: NotRequired[str]
    picks: NotRequired[int]
    f1: NotRequired[float | None]
    precision: NotRequired[float | None]
    doubt: NotRequired[str | None]


class Journal:
    """A journal open for writing.

    Parameters
    ----------
    path
        The file; created by the first event if it does not exist.  While its folder does not exist (checks come before any work), events wait.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stage: str | None = None
        self._waiting = b""  # lines

    def write(self, event: str, **facts: Any) -> None:
        """Append an event with the current time and stage (that of the last `stage` event).

        Raises
        ------
        OSError
            If the file can't be written; a line that was written in part is removed again.
        """
        if event == "stage":
            self._stage = str(facts["stage"])
        now = time.time()
        stamp = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now))
            + f".{int(now % 1 * 1000):03d}"
            + time.strftime("%z", time.localtime(now))
        )
        values = {"time": stamp, "event": event, **({"stage": self._stage} if self._stage else {}), **facts}
        line = self._waiting + (redacted(json.dumps(values, default=str)) + "\n").encode()
        if not self._path.parent.is_dir():
            self._waiting = line
            return
        refuse_links([self._path], "the log of a run")
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            end = os.fstat(descriptor).st_size
            if os.write(descriptor, line) < len(line):  # a full disk may store a part of the line
                os.ftruncate(descriptor, end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            self._waiting = b""
        finally:
            os.close(descriptor)


def read_journal(path: Path, *, without: Sequence[str] = ()) -> Iterator[Event]:
    """Iterate over the events of a journal, except those of the kinds `without`; incomplete and foreign lines are skipped.

    Raises
    ------
    InputError
        If a later version of tomostream wrote a part of it.
    """
    passed = tuple(f'"event": "{event}"'.encode() for event in without)
    try:
        with path.open("rb") as lines:
            for line in lines:
                head = line[:_HEAD_BYTES]
                if any(text in head for text in passed):  # not parsed: there may be a million of these
                    continue
                try:
                    values = json.loads(line)
                except ValueError:
                    continue
                if isinstance(values, dict) and "event" in values and "time" in values:
                    if values["event"] == "run":
                        check_format(values, JOURNAL_FORMAT, path)
                    yield cast(Event, values)
    except FileNotFoundError:
        return
