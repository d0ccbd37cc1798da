"""What the user sees: progress with the time left on a terminal, plain lines elsewhere; on standard error, so that `--json` prints only JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from tomostream.errors import SomeFailedError
from tomostream.pipeline.journal import Journal
from tomostream.progress import Bar, Progress
from tomostream.redaction import redacted

T = TypeVar("T")

PLAIN_SECONDS = 10.0  # between two plain lines about the same task


class _Pace:
    """The speed of a task; steps that were done before don't count."""

    def __init__(self) -> None:
        self._voxels = self._done = 0
        self._start = time.monotonic()

    def measure(self, voxels: int) -> None:
        self._voxels = voxels

    def advance(self, steps: int) -> None:
        self._done += steps

    def left(self, steps: int) -> float:
        """Return the seconds that this many more steps take; NaN if nothing is done yet."""
        return self.elapsed / self._done * steps if self._done else float("nan")

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def __str__(self) -> str:
        """Return the throughput, if the number of voxels of a step is known."""
        return f"{self._voxels * self._done / max(self.elapsed, 1e-3) / 1e6:.3g} Mvox/s" if self._voxels and self._done else ""


class _RichBar(Bar):
    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self._bars, self._task = bars, task
        self._pace = _Pace()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._pace.advance(steps)
        self._bars.update(self._task, advance=steps, pace=str(self._pace))
        if note:
            self._bars.update(self._task, note=note)

    def skip(self, steps: int) -> None:
        self._bars.reset(self._task, completed=steps)  # so that these don't enter the estimate of the time left

    def measure(self, voxels: int) -> None:
        self._pace.measure(voxels)

    def resize(self, total: int) -> None:
        self._bars.update(self._task, total=total)


class _PlainBar(Bar):
    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._pace = _Pace()
        self._last = 0.0  # seconds since the start

    def skip(self, steps: int) -> None:
        self._done += steps

    def measure(self, voxels: int) -> None:
        self._pace.measure(voxels)

    def resize(self, total: int) -> None:
        self._total = total

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        self._pace.advance(steps)
        elapsed = self._pace.elapsed
        is_last = self._done >= self._total
        if steps and (elapsed - self._last >= PLAIN_SECONDS or (is_last and elapsed >= PLAIN_SECONDS)):
            self._last = elapsed
            eta = "" if is_last else f"{self._pace.left(self._total - self._done):.0f} s left"
            more = "".join(f", {text}" for text in (eta, str(self._pace), note) if text)
            print(
                f"{self._title}: {self._done}/{self._total} in {elapsed:.0f} s{more}",
                file=sys.stderr,
                flush=True,
            )


class ConsoleProgress(Progress):
    """Shows progress on standard error.

    Parameters
    ----------
    log
        A file that also gets every message, as one JSON object per line.
    """

    def __init__(self, log: Path | None = None) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._journal = Journal(log) if log is not None else None
        self._bars: RichProgress | None = None
        self._said: set[str] = set()  # of what is said once

    def say(self, text: str) -> None:
        text = redacted(text)
        self.record("message", text=text)
        self._console.print(text, markup=False)

    def say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.say(text)

    def warn(self, text: str) -> None:
        text = redacted(text)
        self.record("warning", text=text)
        self._console.print(f"warning: {text}", style="yellow", markup=False)

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Bar]:
        started = time.monotonic()
        self.record("start", title=title, total=total)
        if not self._console.is_terminal:
            yield _PlainBar(title, total)
        elif self._bars is not None:
            yield from self._add(self._bars, title, total)
        else:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[pace]}"),
            )
            with RichProgress(*columns, TextColumn("{task.fields[note]}"), console=self._console) as bars:
                self._bars = bars
                try:
                    yield from self._add(bars, title, total)
                finally:
                    self._bars = None
        self.record("finish", title=title, seconds=round(time.monotonic() - started, 3))

    def _add(self, bars: RichProgress, title: str, total: int) -> Iterator[Bar]:
        task = bars.add_task(title, total=total, note="", pace="")
        yield _RichBar(bars, task)
        if len(bars.tasks) > 1:  # one of many: they would fill the screen
            bars.remove_task(task)

    def record(self, event: str, **facts: object) -> None:
        if self._journal is not None:
            self._journal.write(event, **facts)


def show_done(work: Callable[[], Sequence[T]], show: Callable[[Sequence[T]], None]) -> None:
    """Do the work and show its results, including those that are done when other inputs failed."""
    try:
        done = work()
    except SomeFailedError as error:
        show(cast(Sequence[T], error.done))
        raise
    show(done)


def print_json(values: object) -> None:
    """Write JSON to standard output."""
    sys.stdout.write(redacted(json.dumps(values, indent=1, allow_nan=False, default=str)) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table to standard output; columns of numbers are right-aligned, text is left-aligned."""
    table = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for i, column in enumerate(columns):
        is_number = i > 0 and all(not row[i] or row[i].lstrip("-+.")[:1].isdigit() for row in rows)
        table.add_column(column, justify="right" if is_number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(redacted, row))
    console = Console(soft_wrap=True, highlight=False)
    # lines in a file or pipe are never cut
    Console(soft_wrap=True, highlight=False, width=console.width if console.is_terminal else 400).print(table, markup=False)
