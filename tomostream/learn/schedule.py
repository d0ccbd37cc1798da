"""Two schedules of the learning rate, both pure functions of the progress and the criteria so far.

`cosine` falls from the full rate to zero over the run's steps (or minutes, whichever ends first).  `plateau` halves the rate after five
epochs without a better criterion (as in the TomoPicker paper).
"""

import math
from collections.abc import Sequence
from typing import Literal

Schedule = Literal["cosine", "plateau"]

PATIENCE = 5  # epochs without a better criterion before the rate is halved (TomoPicker)


def learning_rate(schedule: Schedule, *, full: float, progress: float, criteria: Sequence[float]) -> float:
    """Return the learning rate of the next step.

    Parameters
    ----------
    full
        The rate at the start.
    progress
        Share of the run that is done, in [0, 1].
    criteria
        Validation criterion of each epoch so far; larger is better.
    """
    if schedule == "cosine":
        return full * 0.5 * (1 + math.cos(math.pi * progress))
    return full * 0.5 ** _halvings(criteria)


def _halvings(criteria: Sequence[float]) -> int:
    best, idle, halvings = -math.inf, 0, 0
    for criterion in criteria:
        idle = 0 if criterion > best else idle + 1
        best = max(best, criterion) if not math.isnan(criterion) else best
        if idle == PATIENCE:
            halvings, idle = halvings + 1, 0
    return halvings
