"""How many picks of a species does a run make in a tomogram?  The meaning of `pick.count` and `pick.threshold`.

    pick.count               wanted
    N                        the best N
    truth                    the best, as many as there are true particles; where the truth has no row of the tomogram: as auto, else above the threshold
    auto                     as many as the scores say, near the expected number
    none, but a threshold    all above it
    neither                  as auto

With a threshold they are taken of the picks above it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tomostream.picking.how_many import HowMany, how_many


@dataclass(frozen=True, slots=True)
class WantedNumber:
    """The keys `count` and `threshold` of a configuration's `pick`."""

    count: int | Literal["truth", "auto"] | None
    threshold: float | None

    @property
    def is_by_truth(self) -> bool:
        """Whether the number of true particles is the number of picks."""
        return self.count == "truth"

    @property
    def is_by_scores(self) -> bool:
        """Whether it takes an expected number, near which the scores choose; by truth: for tomograms that it lacks."""
        return not isinstance(self.count, int) and (self.count is not None or self.threshold is None)

    def of(self, *, true: int | None, expected: Callable[[], int | None]) -> HowMany | Literal[0] | None:
        """Decide for a tomogram.

        Parameters
        ----------
        true
            True particles there; None: not known, or not asked for.
        expected
            Returns the expected number, or None if it is not known; called only where it is needed.

        Returns
        -------
        HowMany, 0 or None
            0: there is no particle to pick.  None: the number is not known.
        """
        count = self.count if isinstance(self.count, int) else true
        if count is None and self.is_by_scores:
            guess = expected()
            if guess is None and not self.is_by_truth:
                return None  # a threshold alone is not what was asked for
            return 0 if guess == 0 else how_many(expected=guess, threshold=self.threshold)
        return 0 if count == 0 else how_many(count=count, threshold=self.threshold)
