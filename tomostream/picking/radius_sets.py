"""Which voxels of a window may be picks for some radius of a range, and from which radius on?  Pure; exact, and certain where the window shows enough.

For one radius R the picks are those of the greedy loop (`greedy`).  Let S(v) be the radii of the range at which voxel v is a pick.  In the order
of the loop,

    S(v)  =  all radii  less  those of S(u) that are at least |u - v|, for every earlier voxel u

because at radius R an earlier pick u within R, and nothing else, suppresses v.  A voxel whose S is empty is never a pick, and takes no part in
the loop for any radius of the range: without it the picks are the same.  What is left is small: particles' peaks, and a few voxels of
the flanks from which another pick's ball takes a peak away.  Peaks alone would not do: they are not all of it.

A window shows a part of the volume, so two sets are kept (as `greedy` keeps three answers): `surely` is a part of S, `maybe` holds it.

1. `maybe(v)` = all less those of `surely(u)` from |u - v| on; empty: v is left out.
2. `surely(v)` = all less those of `maybe(u)` from |u - v| on, less those whose ball around v leaves the window through an open face.

Distances between voxels are roots of whole numbers, so a radius means floor(R^2), and a set of radii is the bits of one Python integer.

How it is fast: a voxel that is surely a pick at every radius paints its ball of the least radius; nearly all voxels fall there.
"""

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from tomostream.geometry import Triple

NEVER = -1
_Grid = defaultdict[Triple, list[tuple[int, int, int, int]]]
_AT_ONCE = 2**12  # voxels between two vectorised looks at what is painted


@dataclass(frozen=True, slots=True)
class Radii:
    """The radii from `least` to `most`, voxels, as the whole numbers that their squares come to."""

    least: float
    most: float

    @property
    def first(self) -> int:
        """Floor of the least radius' square."""
        return int(self.least * self.least)

    @property
    def last(self) -> int:
        """Floor of the largest one's."""
        return int(self.most * self.most)

    @property
    def every(self) -> int:
        """The set of all radii: a bit each."""
        return (1 << (self.last - self.first + 1)) - 1


def least_radii(
    place: Int64[np.ndarray, "n 3"], radii: Radii, *, window: Triple, open_low: tuple[bool, ...], open_high: tuple[bool, ...]
) -> Int64[np.ndarray, " n"]:
    """The least radius of a range at which each voxel may be a pick, as floor(R^2); `NEVER` if there is none.

    Parameters
    ----------
    place
        Voxels of the window (z y x), all that score above a floor, in the order of the loop.
    radii
        The range.
    window
        Its shape.
    open_low, open_high
        Per axis, whether the volume goes on beyond the window's first and last voxels.
    """
    painting = _Painting(window, radii)
    sets = _Sets(radii)
    least = np.full(len(place), NEVER, dtype=np.int64)
    margin = _distance_to_open_faces(place, window, open_low, open_high)
    for start in range(0, len(place), _AT_ONCE):
        part = place[start : start + _AT_ONCE]
        for offset in np.flatnonzero(~painting.covers(part)).tolist():
            z, y, x = part[offset].tolist()
            if painting.covers_one(z, y, x):
                continue
            maybe, is_solid = sets.add((z, y, x), int(margin[start + offset]))
            if maybe:
                least[start + offset] = radii.first + (maybe & -maybe).bit_length() - 1
            if is_solid:
                painting.paint(z, y, x)
    return least


def _distance_to_open_faces(place: np.ndarray, window: Triple, open_low: tuple[bool, ...], open_high: tuple[bool, ...]) -> np.ndarray:
    """How far the nearest voxel beyond an open face is; a large number where none is open."""
    nearest = np.full(len(place), 2**30, dtype=np.int64)
    for axis, n in enumerate(window):
        if open_low[axis]:
            np.minimum(nearest, place[:, axis] + 1, out=nearest)
        if open_high[axis]:
            np.minimum(nearest, n - place[:, axis], out=nearest)
    return nearest


class _Painting:
    """The voxels within the least radius of one that is a pick at every radius: a byte each, with a margin all round."""

    def __init__(self, window: Triple, radii: Radii) -> None:
        self._reach = reach = math.isqrt(radii.first)
        shape = [n + 2 * reach for n in window]
        self._cells = np.zeros(math.prod(shape), dtype=bool)
        self._steps = (shape[1] * shape[2], shape[2], 1)
        squares = np.arange(-reach, reach + 1, dtype=np.int64) ** 2
        ball = np.argwhere(squares[:, None, None] + squares[:, None] + squares <= radii.first) - reach
        self._ball = ball @ np.array(self._steps)

    def _at(self, z: int, y: int, x: int) -> int:
        reach = self._reach
        return (z + reach) * self._steps[0] + (y + reach) * self._steps[1] + x + reach

    def covers(self, place: np.ndarray) -> np.ndarray:
        """Whether voxels are painted."""
        return np.asarray(self._cells[(place + self._reach) @ np.array(self._steps)])

    def covers_one(self, z: int, y: int, x: int) -> bool:
        """The same of one."""
        return bool(self._cells[self._at(z, y, x)])

    def paint(self, z: int, y: int, x: int) -> None:
        """Paint the ball around a voxel."""
        self._cells[self._at(z, y, x) + self._ball] = True


class _Sets:
    """The voxels that may be picks so far, with both of their sets of radii, in hash grids.

    Near an open face hardly any voxel is surely a pick, so nearly all may be one, and a look at all of them for each would take a time that grows with
    the square of their density.  Those that surely are picks at some radius have a grid of their own, therefore: these alone make
    `maybe` smaller.  The others make `surely` smaller, which mostly is empty at once, or after a few of the nearest.
    """

    def __init__(self, radii: Radii) -> None:
        self._radii, self._every = radii, radii.every
        self._edge = math.isqrt(radii.first) + 1
        self._shown = math.isqrt(radii.last) + 1
        self._sure: _Grid = defaultdict(list)  # with `surely`, where it is not empty
        self._all: _Grid = defaultdict(list)  # with `maybe`
        reach = -(-self._shown // self._edge)
        every = itertools.product(range(-reach, reach + 1), repeat=3)
        self._cells = sorted(every, key=lambda cell: (max(map(abs, cell)) > 1, sum(edge * edge for edge in cell)))

    def add(self, place: Triple, margin: int) -> tuple[int, bool]:
        """Take the next voxel: the radii at which it may be a pick, and whether it surely is one at all; `margin` voxels around are shown."""
        maybe = self._without(self._every, self._sure, place)
        if not maybe:
            return 0, False
        surely = self._every
        if margin <= self._shown:
            surely &= (1 << max(0, margin * margin - self._radii.first)) - 1  # radii below the margin
        surely = self._without(surely, self._all, place)
        z, y, x = place
        cell = (z // self._edge, y // self._edge, x // self._edge)
        self._all[cell].append((z, y, x, maybe))
        if surely:
            self._sure[cell].append((z, y, x, surely))
        return maybe, surely == self._every

    def _without(self, radii: int, grid: _Grid, place: Triple) -> int:
        """A set of radii less those of the voxels of a grid, of each from its distance on."""
        z, y, x = place
        first, last = self._radii.first, self._radii.last
        i, j, k = z // self._edge, y // self._edge, x // self._edge
        for u, v, w in self._cells:  # nearly all end among the near ones
            if not radii:
                return 0
            for a, b, c, theirs in grid.get((i + u, j + v, k + w), ()):
                squared = (a - z) ** 2 + (b - y) ** 2 + (c - x) ** 2
                if squared <= last:
                    beyond = squared - first if squared > first else 0
                    radii &= ~(theirs >> beyond << beyond)
                    if not radii:
                        return 0
        return radii
