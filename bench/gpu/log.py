"""Print each result and append it to a file at once, so that a later crash does not lose it.

`results.jsonl` in the output folder has one line per result: {"section", "what", "value", "unit", "note", "seconds" since the section began}.
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

import torch

from tomostream.learn.precision import onednn_takes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Log:
    """The results of a section of the benchmark, and its settings.

    Parameters
    ----------
    section
        Its name.
    out
        Folder of the results.
    scratch
        Folder for stores; its content is shared by the sections.
    device
        `cuda`, or `cpu` to try the benchmark itself.
    is_small
        Whether to use sizes that take seconds on a processor; the figures then mean nothing.
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

    @property
    def half(self) -> str:
        """bf16; float32 on a processor that has none, where a trial of the command would not end."""
        return "bf16" if self.device != "cpu" or onednn_takes(torch.bfloat16) else "float32"

    def __call__(self, what: str, value: object, unit: str = "", note: str = "") -> None:
        """Record a result."""
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"  {what:<72} {text:>12} {unit:<9} {note}", flush=True)
        seconds = round(time.monotonic() - self._start, 1)
        line = {"section": self.section, "what": what, "value": value, "unit": unit, "note": note, "seconds": seconds}
        with (self.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(line, default=str) + "\n")

    def attempt(self, what: str, work: Callable[[], T], *, seconds: float = 0.0) -> T | None:
        """Call `work`, unless it needs more `seconds` than are left; record a failure as a result."""
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
