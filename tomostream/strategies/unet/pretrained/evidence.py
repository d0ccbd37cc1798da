"""Choose a way of scoring by the ranks that it gives to left-out clicks.

1. Split the clicks into at most `FOLDS` parts.  Leave out each part once, and make head and filter from the others.
2. The score of a left-out click is that of the highest peak within half a radius of it; a peak farther away is not at the centre.  A click without
   such a peak gets the last rank.
3. The rank of the click is the number of peaks in the background boxes that score higher, times the volume of the tomograms over that of the boxes.
4. The cost of a way is the mean of log(1 + rank / expected number), each at most log(1 + `WORST`): one click that lies beside its particle must not
   outweigh the others.  It hardly depends on ranks within the expected number: the clicks are a random part of the particles, so even a perfect
   picker ranks them anywhere among these.
5. The first way in the order given wins whose cost exceeds the lowest cost by at most `CLEARLY`: ten clicks can't resolve smaller differences
   (`chosen`: whether a head is needed is decided first).
6. A left-out click is found if a peak is near it.  Of those that are not, the place may be wrong, so they tell nothing of the number of particles.
7. A way is blind if more than `BLIND` of the background's peaks score higher than the median found click.  By chance it would be half of them.

Limits: particles without a click are among the peaks, as they should be; a way that misses a kind of particle that nobody clicked goes unnoticed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

FOLDS = 10  # most parts into which the clicks are split
CLEARLY = 0.1  # costs that differ by at most this count as equal
WORST = 5.0  # ranks of more than so many times the expected number cost no more
_APART = 0.7  # in radii: a peak is the maximum of the cube with this half-edge around it
NEAR = 0.5  # in radii: distance within which a peak belongs to a click
FEWEST_RANKS = 5  # fewest found clicks from which the number of particles is estimated, or a way is called blind
BLIND = 0.25  # share of the background's peaks above the median found click


@dataclass(frozen=True, slots=True)
class Way:
    """A way of scoring: a weighted sum of head and filter, each in units of its standard deviation.

    Parameters
    ----------
    shrinkage
        Shrinkage of the head; None: no head.
    filter
        Weight of the filter; the head has weight 1.
    is_telling
        Whether the profile of the filter is the discriminant between clicks and other peaks (True) or the average of the clicks (False).
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
# the order decides between ways of about the same cost; the first was never far from the best on the development tomograms (docs/measurements.md)
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
# ways that may join a trained network, the cheapest to compute first; always with a filter, since the network alone does not locate the centre
JOINING = (
    Way(None, 1.0),
    Way(None, 1.0, is_telling=False),
    Way(_SOME, 1.0),
    Way(_SOME, 1.0, is_telling=False),
    Way(_MUCH, 1.0),
    Way(_MUCH, 1.0, is_telling=False),
)


def peaks_of(scores: np.ndarray, *, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the local maxima of a score map: voxels (n, 3) and their scores (n,); `radius` in voxels."""
    from scipy import ndimage

    edge = 2 * max(1, int(_APART * radius)) + 1
    index = np.argwhere(scores == ndimage.maximum_filter(scores, size=edge, mode="nearest"))
    return index, scores[tuple(index.T)]


def rank_of(scores: np.ndarray, click: Float64[np.ndarray, " 3"], sorted_peaks: np.ndarray, *, radius: float) -> int:
    """Return how many of the background's peaks score higher than the best peak near a click; all of them if no peak is near.

    Parameters
    ----------
    scores
        Scores (z, y, x) of a box around the click.
    click
        Position of the click in the box, z y x in voxels.
    sorted_peaks
        Scores of the background's peaks, ascending.
    radius
        Radius of the particle, in voxels.
    """
    index, values = peaks_of(scores, radius=radius)
    near = ((index - click) ** 2).sum(axis=1) <= max(1.0, NEAR * radius) ** 2
    if not near.any():
        return len(sorted_peaks)
    return len(sorted_peaks) - int(np.searchsorted(sorted_peaks, values[near].max(), side="right"))


def cost_of(ranks: Sequence[float], expected: float) -> float:
    """Return the mean of log(1 + rank / expected), with each quotient at most `WORST`."""
    return float(np.log1p(np.minimum(np.asarray(ranks) / max(1.0, expected), WORST)).mean())


def chosen(ways: Sequence[Way], costs: Sequence[float]) -> int:
    """Return the index of the first way whose cost exceeds the lowest by at most `CLEARLY`.

    If the order prefers to do without a head, ways with one only compete if the best of them is clearly cheaper than the best without.

    Parameters
    ----------
    ways
        In order of preference.
    costs
        Cost of each.
    """
    competing = list(range(len(ways)))
    if ways[0].shrinkage is None:
        plain = [number for number in competing if ways[number].shrinkage is None]
        headed = [number for number in competing if ways[number].shrinkage is not None]
        needs_head = bool(headed) and min(costs[number] for number in headed) + CLEARLY < min(costs[number] for number in plain)
        competing = headed if needs_head else plain
    best = min(costs[number] for number in competing)
    return next(number for number in competing if costs[number] <= best + CLEARLY)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The choice of a way of scoring by left-out clicks.

    Parameters
    ----------
    ways, costs
        The ways that were compared, and the cost of each.  Without costs there was a single click, and the first way was taken.
    way
        The chosen way.
    number
        Number of particles in all clicked tomograms together, estimated from the ranks by the chosen way; None: too few clicks were found.
    ranks
        Ranks of the left-out clicks by the chosen way.
    shares
        Share of the background's peaks that score higher than each left-out click by the chosen way; 1 for a click that is not found.
    is_blind
        Whether even the chosen way ranks the left-out clicks among the background.
    """

    ways: tuple[Way, ...]
    costs: tuple[float, ...]
    way: Way
    number: float | None
    ranks: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    is_blind: bool = False

    def __str__(self) -> str:
        if not self.costs:
            return f"{self.way}; nothing was compared, because a single click can't be left out"
        order = np.argsort(self.costs, kind="stable")[:3]
        best = ", ".join(f"{self.ways[i]} {self.costs[i]:.2f}" for i in order)
        return f"{self.way}, chosen by the ranks of left-out clicks (0.7 or less: within the expected number; the best three: {best})"

    @property
    def warning(self) -> str:
        """Warning for a blind way."""
        return (
            f"even {self.way}, the best of the ways, ranks left-out clicks among the background; these particles are hard to tell from it"
        )

    @property
    def recorded(self) -> dict[str, float]:
        """Cost of each way, for `model.json`."""
        return {str(way): round(cost, 4) for way, cost in zip(self.ways, self.costs, strict=False)}

    @property
    def recorded_ranks(self) -> list[float]:
        """Sorted ranks of the left-out clicks, for `model.json`."""
        return [round(rank, 1) for rank in sorted(self.ranks)]


def verdict_of(
    ways: Sequence[Way], ranks: Sequence[Sequence[float]], shares: Sequence[Sequence[float]], *, expected: float | None
) -> Verdict:
    """Choose a way by the ranks of left-out clicks.

    Parameters
    ----------
    ways
        The ways to compare, in order of preference.
    ranks
        [way][left-out click]: ranks in all clicked tomograms together.
    shares
        [way][left-out click]: share of the background's peaks that score higher.
    expected
        Expected number of particles there; None: estimate it from the way that ranks the clicks best.
    """
    if not ranks or not ranks[0]:
        return Verdict(tuple(ways), (), ways[0], None)
    found = [[rank for rank, share in zip(own, above, strict=True) if share < 1] for own, above in zip(ranks, shares, strict=True)]
    guess = expected if expected is not None else min(number_of(some or own) for some, own in zip(found, ranks, strict=True))
    costs = tuple(cost_of(own, guess) for own in ranks)
    winner = chosen(ways, costs)
    blind = is_blind(shares[winner])
    number = number_of(found[winner]) if len(found[winner]) >= FEWEST_RANKS and not blind else None
    return Verdict(tuple(ways), costs, ways[winner], number, tuple(ranks[winner]), tuple(shares[winner]), blind)


def is_blind(shares: Sequence[float]) -> bool:
    """Whether a way ranks the found clicks among the background.

    Parameters
    ----------
    shares
        Share of the background's peaks that score higher than each left-out click; 1 for a click that is not found.
    """
    found = [share for share in shares if share < 1]
    return len(found) >= FEWEST_RANKS and float(np.median(found)) > BLIND


def number_of(ranks: Sequence[float]) -> float:
    """Estimate the number of particles as twice the median rank of the clicks, counted from 1: clicks are a random part of the particles.

    False peaks that rank above the clicks make it too high.  The median makes it robust to a misplaced click.
    """
    return 2 * (float(np.median(ranks)) + 1)


def folds_of(count: int) -> list[list[int]]:
    """Return the indices of the clicks that are left out together, fold by fold; no fold for a single click."""
    if count < 2:
        return []
    return [list(range(first, count, FOLDS)) for first in range(min(FOLDS, count))]
