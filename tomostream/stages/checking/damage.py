"""What is damaged, where, and how it can be repaired."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

# what is made again first, because the others are made from it
ORDER = ("tomogram", "statistics", "scores", "picks")


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged part.

    Parameters
    ----------
    path
        The store, folder or file.
    part
        Of it: a shard's file, an attribute, a row.
    problem
        In words.
    mend
        Makes the part again, with the same bytes; raises a `TomostreamError` that says why not.  None: nothing here can.
    rank
        Of `ORDER`: when.
    """

    path: str
    part: str
    problem: str
    mend: Callable[[], None] | None = field(default=None, compare=False, repr=False)
    rank: str = "tomogram"

    def to_json(self) -> dict[str, str]:
        """Return the values that `check --json` prints."""
        return {"path": self.path, "part": self.part, "problem": self.problem}

    def __str__(self) -> str:
        return f"{self.path}: {self.part}: {self.problem}"
