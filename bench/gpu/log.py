"""How do results survive whatever happens next?  Each is printed and appended to a file when it is found.

`results.jsonl` of the output folder has a line a result: {"section", "what", "value", "unit", "note", "seconds" since the section began}.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Log:
    """Where a section of the benchmark writes.

    Parameters
    ----------
    section
        Its name.
    out
        Folder of the results.
    scratch
        Folder for stores; its content is shared by the sections.
    device
        `cuda`, or `cpu` where the benchmark itself is tried.
    is_small
        Sizes of seconds on a processor; the figures say nothing.
    deadline
        When the section will be ended, by `time.monotonic`.
    """

    section: str
    out: Path
    scratch: Path
    device: str
    is_small: bool
    deadline: float
    _start: float = field(default_factory=time.monotonic)

    def __call__(self, what: str, value: object, unit: str = "", note: str = "") -> None:
        """Write down a result."""
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"  {what:<72} {text:>12} {unit:<9} {note}", flush=True)
        seconds = round(time.monotonic() - self._start, 1)
        line = {"section": self.section, "what": what, "value": value, "unit": unit, "note": note, "seconds": seconds}
        with (self.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def attempt(self, what: str, work: Callable[[], T], *, seconds: float = 0.0) -> T | None:
        """Do something that may fail, or be too long for what is left of the section's time; a failure is a result."""
        if time.monotonic() + seconds > self.deadline:
            self(what, "left out", note=f"{self.deadline - time.monotonic():.0f} s are left, {seconds:.0f} needed")
            return None
        try:
            return work()
        except Exception as error:
            self(what, "FAILED", note=" ".join(f"{type(error).__name__}: {error}".split())[:300])
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
            return None
