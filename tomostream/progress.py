"""Messages and progress of a running stage; the command line decides how they look.

Stages take a `Progress` and call it; this base class says nothing, so the Python functions are silent by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Bar:
    """The progress of one piece of work, counted in steps."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Say that `steps` more are done; `note` is a short text such as the current loss."""

    def resize(self, total: int) -> None:
        """Say how many steps there are, where that was not known at the start."""

    def skip(self, steps: int) -> None:
        """Say that `steps` were done before: they count as done, but tell nothing of the pace."""

    def measure(self, voxels: int) -> None:
        """Say how many voxels a step is, on the average, so that the throughput can be shown."""


class Progress:
    """Receives what a stage has to say; silent."""

    def say(self, text: str) -> None:
        """Give a plain message."""

    def warn(self, text: str) -> None:
        """Give a warning: the work goes on, but the user should know."""

    def say_once(self, text: str) -> None:
        """Give a message that holds for all of many inputs, each of which gives it."""

    def record(self, event: str, **facts: object) -> None:
        """Keep a fact for the run's log, where there is one; nothing is shown."""

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Bar]:
        """Follow a piece of work of `total` steps."""
        del title, total
        yield Bar()
