"""Which way of scoring puts clicks first that it never saw?  Each is judged by the ranks of clicks that were left out of it.

1. The clicks are split into at most `FOLDS` parts; each part is left out once, and head and filter are made from the others.
2. A left-out click's score is that of the highest peak within half a radius of it: a pick farther off is no centre.  Without one it has the
   last rank.
3. Its rank: how many peaks of the background's boxes score higher, times the volume over that of the boxes.
4. A way costs the mean of log(1 + rank / number expected) over the better ranked four fifths of the clicks (`COUNTED`): a click or two may lie beside
   its particle.  Within the expected number ranks say nothing: the clicks are a random part of the
   particles, so that even a perfect picker ranks them anywhere in it.
5. The cheapest way wins, but for those before it in the order of `WAYS` that cost no more than `CLEARLY` more: ten clicks tell no finer.
6. A way is blind where more than `BLIND` of the background's peaks score higher than the median left-out click: chance would have half of them.

Limits: unclicked particles are among the peaks, as they should be; a way that misses the kinds of particle which nobody clicked is not found out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

FOLDS = 10
CLEARLY = 0.1
COUNTED = 0.8  # of the left-out clicks, the best ranked
_APART = 0.7  # peaks are the highest of their cube of this half-edge, radii
NEAR = 0.5  # of a click, radii
FEWEST_RANKS = 5  # from which a number of particles is told, and whether a way is blind
BLIND = 0.25  # share of the background's peaks above the median left-out click


@dataclass(frozen=True, slots=True)
class Way:
    """A sum of head and filter, both in standard deviations.

    Parameters
    ----------
    shrinkage
        Of the head; None: no head.
    filter
        Weight of the filter.
    is_telling
        Whether the filter looks for what tells the clicks from other peaks, or for their average.
    """

    shrinkage: float | None
    filter: float
    is_telling: bool = True

    def __str__(self) -> str:
        head = "" if self.shrinkage is None else f"head (shrinkage {self.shrinkage:.2g})"
        name = "discriminant" if self.is_telling else "average"
        tail = "" if self.filter == 0 else name if self.shrinkage is None else f"{self.filter:g} x {name}"
        return " + ".join(part for part in (head, tail) if part)


_LITTLE, _SOME, _MUCH = math.exp(-3), math.exp(-1), math.exp(1)
# in this order ties are settled: the first was never far from the best on the tomograms that were chosen on (docs/accuracy.md)
WAYS = (
    Way(_SOME, 1.0),
    Way(_SOME, 2.0),
    Way(None, 1.0),
    Way(_SOME, 0.0),
    Way(_SOME, 1.0, is_telling=False),
    Way(None, 1.0, is_telling=False),
    Way(_MUCH, 1.0),
    Way(_MUCH, 1.0, is_telling=False),
    Way(_MUCH, 0.0),
    Way(_LITTLE, 1.0),
    Way(_LITTLE, 0.0),
)
# what may join a network that the clicks trained: a filter always, since the network alone does not find the centre; the cheapest first
JOINING = (
    Way(None, 1.0),
    Way(None, 1.0, is_telling=False),
    Way(_SOME, 1.0),
    Way(_SOME, 1.0, is_telling=False),
    Way(_MUCH, 1.0),
    Way(_MUCH, 1.0, is_telling=False),
)


def peaks_of(scores: np.ndarray, *, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (n, 3) that are the highest around, and their scores (n,); radius in voxels."""
    from scipy import ndimage

    edge = 2 * max(1, int(_APART * radius)) + 1
    index = np.argwhere(scores == ndimage.maximum_filter(scores, size=edge, mode="nearest"))
    return index, scores[tuple(index.T)]


def rank_of(scores: np.ndarray, click: Float64[np.ndarray, " 3"], sorted_peaks: np.ndarray, *, radius: float) -> int:
    """How many of the background's peaks score higher than the best peak at a click.

    Parameters
    ----------
    scores
        Of a box around the click.
    click
        In the box, voxels.
    sorted_peaks
        Scores of the background's peaks, ascending.
    """
    index, values = peaks_of(scores, radius=radius)
    near = ((index - click) ** 2).sum(axis=1) <= max(1.0, NEAR * radius) ** 2
    if not near.any():
        return len(sorted_peaks)
    return len(sorted_peaks) - int(np.searchsorted(sorted_peaks, values[near].max(), side="right"))


def cost_of(ranks: Sequence[float], expected: float) -> float:
    """The mean of log(1 + rank / expected) over the best `COUNTED` of the ranks."""
    counted = np.sort(np.asarray(ranks))[: math.ceil(COUNTED * len(ranks))]
    return float(np.log1p(counted / max(1.0, expected)).mean())


def chosen(costs: Sequence[float]) -> int:
    """The number of the way that wins; costs in the order of the ways."""
    best = min(costs)
    return next(number for number, cost in enumerate(costs) if cost <= best + CLEARLY)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What left-out clicks decide.

    Parameters
    ----------
    ways, costs
        What was compared, and what each cost; without costs there were too few clicks, and the first way is taken.
    way
        The winner.
    number
        Particles in all clicked tomograms together, as the winner's ranks have it; None: too few clicks to say.
    ranks
        Of the left-out clicks, by the winner.
    is_blind
        Whether the winner, too, tells nothing of the particles.
    """

    ways: tuple[Way, ...]
    costs: tuple[float, ...]
    way: Way
    number: float | None
    ranks: tuple[float, ...] = ()
    is_blind: bool = False

    def __str__(self) -> str:
        if not self.costs:
            return f"{self.way}; one click can't be left out, so nothing was compared"
        order = np.argsort(self.costs, kind="stable")[:3]
        best = ", ".join(f"{self.ways[i]} {self.costs[i]:.2f}" for i in order)
        return f"{self.way}, by the ranks of left-out clicks (0.7 or less: within the number expected; the best three: {best})"

    @property
    def warning(self) -> str:
        """What a blind way means."""
        return f"even the best way without training, {self.way}, finds left-out clicks no better than the background: these particles are hard to tell apart"

    @property
    def recorded(self) -> dict[str, float]:
        """What `model.json` keeps."""
        return {str(way): round(cost, 4) for way, cost in zip(self.ways, self.costs, strict=False)}

    @property
    def recorded_ranks(self) -> list[float]:
        """What `model.json` keeps of the ranks."""
        return [round(rank, 1) for rank in sorted(self.ranks)]


def verdict_of(
    ways: Sequence[Way], ranks: Sequence[Sequence[float]], shares: Sequence[Sequence[float]], *, expected: float | None
) -> Verdict:
    """Compare ways by the ranks of left-out clicks.

    Parameters
    ----------
    ways
        The preferred first.
    ranks
        Of each way, in all clicked tomograms together.
    shares
        Of the background's peaks that score higher than each left-out click, for each way.
    expected
        Particles there; None: as the way that ranks the clicks best has it.
    """
    if not ranks or not ranks[0]:
        return Verdict(tuple(ways), (), ways[0], None)
    guess = expected if expected is not None else min(number_of(own) for own in ranks)
    costs = tuple(cost_of(own, guess) for own in ranks)
    winner = chosen(costs)
    blind = is_blind(shares[winner])
    tells_number = len(ranks[winner]) >= FEWEST_RANKS and not blind
    return Verdict(tuple(ways), costs, ways[winner], number_of(ranks[winner]) if tells_number else None, tuple(ranks[winner]), blind)


def is_blind(shares: Sequence[float]) -> bool:
    """Whether a way tells nothing of the particles.

    Parameters
    ----------
    shares
        Of the background's peaks that score higher than each left-out click.
    """
    return len(shares) >= FEWEST_RANKS and float(np.median(shares)) > BLIND


def number_of(ranks: Sequence[float]) -> float:
    """About how many particles there are: clicks are a random part of them, so twice the median click's rank, from 1.

    With false peaks among the best it is too high by as much; one click in a wrong place changes little.
    """
    return 2 * (float(np.median(ranks)) + 1)


def folds_of(count: int) -> list[list[int]]:
    """Which clicks are left out together; none where one click alone is given."""
    if count < 2:
        return []
    return [list(range(first, count, FOLDS)) for first in range(min(FOLDS, count))]
