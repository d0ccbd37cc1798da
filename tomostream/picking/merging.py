"""Which undecided candidates are picks?  The answers of all blocks, merged as they arrive, in bounded memory.

A = the certain picks so far, U = the undecided candidates so far; each voxel is owned by one block.  A true pick is never within the
radius of another, so dropping from U what lies within the radius of A never drops one; and every true pick is in A or U.  So:

1. After each layer of blocks (all blocks of one z), drop from U what lies within the radius of A.
2. Run the greedy loop on the rest of U, in order, with three answers as in `greedy`: near a pick found here: dropped; its ball leaves
   what has been labelled so far, or the neighbourhood of a candidate left undecided: stays in U; else a pick.  After the last layer
   nothing stays.
3. Once A holds as many picks as are wanted, no later voxel that is not above the last of them matters: the threshold rises.
4. If A and U outgrow their share of memory, raise the threshold: the picks above a higher threshold are the first of the picks above a
   lower one, so what is kept stays exact, and at the end it is known which threshold would have fitted.

Picks lie more than a radius apart, so a cell of a hash grid holds few of them: the loop costs some microseconds a candidate.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64
from scipy.spatial import cKDTree

from tomostream.errors import BudgetError
from tomostream.geometry import Box, Triple
from tomostream.picking.greedy import Points
from tomostream.units import format_bytes

POINT_BYTES = 120  # peak memory per held point: itself, its coordinates, a search tree, a sort
_AT_ONCE = 2**14  # candidates examined, or converted to Python numbers, at a time
_FRESH = 2**14  # labels that wait at least before they are compared with what is held


def in_order(points: Points) -> Points:
    """Return the points by descending score, ties by ascending linear index."""
    return points.select(np.lexsort((points.index, -points.score)))


class Settlement:
    """Collects the labels of blocks, in the order of the block grid (z slowest), and decides them.

    Blocks that are still to come need no candidates at or below `threshold`, which rises.

    Parameters
    ----------
    shape
        The volume's shape.
    domain
        The box in which voxels may be picks.
    radius
        In voxels.
    count
        How many picks are wanted at most; None for all.
    threshold
        Above which picks are wanted.
    memory
        Bytes that the held points may take.
    """

    def __init__(self, shape: Triple, *, domain: Box, radius: float, count: int | None, threshold: float, memory: int) -> None:
        self._shape, self._domain, self._radius, self._count = shape, domain, radius, count
        self._asked, self.threshold = threshold, threshold
        self._memory = memory
        self._capacity = memory // POINT_BYTES
        self._seen = 0
        self._accepted = Points.joined([])
        self._undecided = Points.joined([])
        self._fresh: list[tuple[Points, Points]] = []
        self._n_fresh = 0

    def add(self, accepted: Points, undecided: Points) -> None:
        """Take the labels of one block, linear indices of the volume."""
        self._seen += len(accepted) + len(undecided)
        accepted, undecided = (p.select(p.score > self.threshold) for p in (accepted, undecided))
        self._fresh.append((accepted, undecided))
        self._n_fresh += len(accepted) + len(undecided)
        # a block's neighbours decide most of what it left undecided: dropped early, less is held; seldom, so that it costs little
        is_time = self._n_fresh > max(_FRESH, len(self._undecided))
        if is_time or len(self._accepted) + len(self._undecided) + self._n_fresh > self._capacity:
            self._take_in()
            self._drop_suppressed()
            self._fit()

    def settle(self, labelled_to: int) -> None:
        """Decide what can be decided, now that all voxels of the domain with z < `labelled_to` are labelled."""
        self._take_in()
        self._drop_suppressed()
        is_last = labelled_to >= self._domain.stop[0]
        picks, rest = _greedy(
            in_order(self._undecided), self._shape, radius=self._radius, closed_below=None if is_last else labelled_to - int(self._radius)
        )
        self._accepted = Points.joined([self._accepted, picks])
        self._undecided = rest
        if self._count is not None and len(self._accepted) >= self._count:
            # certain picks, and before all voxels of their score that are still to come
            last = self._nth_best(self._count)
            self._keep_above(np.nextafter(last, -np.inf))
            self.threshold = max(self.threshold, last)

    def picks(self) -> Points:
        """Return the picks in order, once everything is settled.

        Raises
        ------
        BudgetError
            If the threshold had to be raised so far that there are fewer picks than wanted.
        """
        found = in_order(self._accepted)
        if self._count is not None and len(found) >= self._count:
            return found.select(slice(self._count))
        if self.threshold > self._asked:
            wanted = f"picking above {self._asked:g}" if self._count is None else f"picking the best {self._count}"
            raise BudgetError(
                f"{wanted} found {self._seen} picks and undecided voxels, but {format_bytes(self._memory)} of memory can hold only "
                f"{self._capacity} of them; with the threshold {self.threshold!r} they fit ({len(found)} picks): "
                "raise the threshold or the memory, or give a smaller count"
            )
        return found

    def _take_in(self) -> None:
        """Join what came since the last time."""
        self._accepted = Points.joined([self._accepted, *(a for a, _ in self._fresh)])
        self._undecided = Points.joined([self._undecided, *(u for _, u in self._fresh)])
        self._fresh, self._n_fresh = [], 0

    def _drop_suppressed(self) -> None:
        if not len(self._undecided) or not len(self._accepted):
            return
        # a linear index grows with z
        plane, reach = self._shape[1] * self._shape[2], int(self._radius)
        lowest, highest = self._undecided.index.min() // plane - reach, self._undecided.index.max() // plane + reach
        picks = self._accepted.index
        picks = _coordinates(picks[(picks >= lowest * plane) & (picks < (highest + 1) * plane)], self._shape)
        if not len(picks):
            return
        tree = cKDTree(picks)
        keep = np.empty(len(self._undecided), dtype=bool)
        for start in range(0, len(keep), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            place = _coordinates(self._undecided.index[part], self._shape)
            # the tree only finds the nearest; whether it is near enough is decided in integers
            nearest = np.asarray(tree.query(place, distance_upper_bound=self._radius + 1)[1])
            has_one = nearest < len(picks)
            squared = ((place[has_one] - picks[nearest[has_one]]) ** 2).sum(axis=1)
            kept = ~has_one
            kept[has_one] = squared > self._radius * self._radius
            keep[part] = kept
        self._undecided = self._undecided.select(keep)

    def _fit(self) -> None:
        """Raise the threshold until half of the capacity is free, if it is nearly used up."""
        if len(self._accepted) + len(self._undecided) <= self._capacity * 9 // 10:
            return
        if self._count is not None and len(self._accepted) >= self._count:
            self._keep_above(np.nextafter(self._nth_best(self._count), -np.inf))  # certain picks: no lower one is among the first
        score = np.concatenate([self._accepted.score, self._undecided.score])
        kept = self._capacity // 2
        if len(score) > kept:
            self._keep_above(np.partition(score, -kept - 1)[-kept - 1])

    def _nth_best(self, n: int) -> float:
        return float(np.partition(self._accepted.score, -n)[-n])

    def _keep_above(self, threshold: float) -> None:
        self.threshold = max(self.threshold, float(threshold))
        self._accepted = self._accepted.select(self._accepted.score > threshold)
        self._undecided = self._undecided.select(self._undecided.score > threshold)


def _coordinates(index: Int64[np.ndarray, " n"], shape: Triple) -> Int64[np.ndarray, "n 3"]:
    return np.stack(np.unravel_index(index, shape), axis=1)


def _greedy(candidates: Points, shape: Triple, *, radius: float, closed_below: int | None) -> tuple[Points, Points]:
    """Run the loop on candidates in order; return the picks and what stays undecided.

    Balls of voxels at z >= `closed_below` leave what is labelled; None if none does.
    """
    edge = int(radius) + 1
    grid: defaultdict[tuple[int, int, int], list[tuple[int, int, int]]] = defaultdict(list)
    unclear: set[tuple[int, int, int]] = set()  # cells next to which a candidate stayed undecided
    accepted: list[np.ndarray] = []
    undecided: list[np.ndarray] = []
    limit = radius * radius
    for start in range(0, len(candidates), _AT_ONCE):
        part = _coordinates(candidates.index[start : start + _AT_ONCE], shape)
        label = np.zeros(len(part), dtype=np.uint8)
        for position, (z, y, x) in enumerate(part.tolist()):
            cell = (z // edge, y // edge, x // edge)
            around = list(_neighbours(cell))
            if any((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 <= limit for near in around if near in grid for a, b, c in grid[near]):
                continue
            if cell in unclear or (closed_below is not None and z >= closed_below):
                unclear.update(around)
                label[position] = 2
            else:
                grid[cell].append((z, y, x))
                label[position] = 1
        accepted.append(start + np.flatnonzero(label == 1))
        undecided.append(start + np.flatnonzero(label == 2))
    nothing = np.empty(0, dtype=np.int64)
    return candidates.select(np.concatenate([nothing, *accepted])), candidates.select(np.concatenate([nothing, *undecided]))


def _neighbours(cell: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
    z, y, x = cell
    return itertools.product((z - 1, z, z + 1), (y - 1, y, y + 1), (x - 1, x, x + 1))
