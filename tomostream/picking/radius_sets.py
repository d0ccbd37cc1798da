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

How it is fast: bits of a byte for each voxel of the window (`_Cells`) settle most voxels before their neighbours are looked at.

- A voxel that is surely a pick at every radius covers its ball of the least radius: there `maybe` is empty.  In a whole volume nearly all fall there.
- Near an open face of a noisy volume little is certain.  There nothing is sure within the least radius of a voxel whose `maybe` is full ("doubt"),
  and `maybe` is full unless something sure is near; such voxels are only marked ("lost"), not held.
"""

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from tomostream.geometry import Triple

NEVER = -1
COVERED, DOUBT, NEAR_SURE, LOST = 1, 2, 4, 8  # bits of a voxel
_AT_ONCE = 2**12  # voxels between two vectorised looks at what is covered


_Entry = tuple[int, int, int, int, int]  # z, y, x, `surely`, `maybe`


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
    cells = _Cells(window, radii)
    sets = _Sets(radii, cells)
    least = np.full(len(place), NEVER, dtype=np.int64)
    margin = _distance_to_open_faces(place, window, open_low, open_high)
    for start in range(0, len(place), _AT_ONCE):
        part = place[start : start + _AT_ONCE]
        for offset in np.flatnonzero(cells.of(part) & COVERED == 0).tolist():
            z, y, x = part[offset].tolist()
            bits = cells.of_one(z, y, x)
            if bits & COVERED:
                continue
            if bits & (DOUBT | NEAR_SURE) == DOUBT:
                cells.lose(z, y, x)
                least[start + offset] = radii.first
                continue
            maybe = sets.add((z, y, x), int(margin[start + offset]), is_in_doubt=bool(bits & DOUBT))
            if maybe:
                least[start + offset] = radii.first + (maybe & -maybe).bit_length() - 1
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


class _Cells:
    """Bits for each voxel of a window, with a margin all round."""

    def __init__(self, window: Triple, radii: Radii) -> None:
        near, far = math.isqrt(radii.first), math.isqrt(radii.last)
        self._margin, self._last = far, radii.last
        self._cells = np.zeros([n + 2 * far for n in window], dtype=np.uint8)
        self._flat = self._cells.reshape(-1)
        self._steps = (self._cells.shape[1] * self._cells.shape[2], self._cells.shape[2], 1)
        self._near, self._far = self._ball(near, radii.first), self._ball(far, radii.last)
        self._edge = far + 1
        # whether any voxel of a coarse cell is lost; a look at it is cheaper than one at the voxels
        self._has_lost = np.zeros([-(-n // self._edge) + 2 for n in window], dtype=bool)

    def _ball(self, reach: int, squared: int) -> np.ndarray:
        squares = np.arange(-reach, reach + 1, dtype=np.int64) ** 2
        ball = np.argwhere(squares[:, None, None] + squares[:, None] + squares <= squared) - reach
        return np.asarray(ball @ np.array(self._steps))

    def _at(self, z: int, y: int, x: int) -> int:
        margin, (plane, row, _) = self._margin, self._steps
        return int((z + margin) * plane + (y + margin) * row + x + margin)

    def of(self, place: np.ndarray) -> np.ndarray:
        """The bits of voxels."""
        return np.asarray(self._flat[(place + self._margin) @ np.array(self._steps)])

    def of_one(self, z: int, y: int, x: int) -> int:
        """The bits of one."""
        return int(self._flat[self._at(z, y, x)])

    def paint(self, place: Triple, bits: int) -> None:
        """Add bits to the ball of the least radius around a voxel."""
        self._flat[self._at(*place) + self._near] |= bits

    def paint_far(self, place: Triple, bits: int) -> None:
        """Add bits to the ball of the largest radius."""
        self._flat[self._at(*place) + self._far] |= bits

    def lose(self, z: int, y: int, x: int) -> None:
        """Mark a voxel whose `surely` is empty and whose `maybe` is full."""
        self._flat[self._at(z, y, x)] |= LOST
        self._has_lost[z // self._edge + 1, y // self._edge + 1, x // self._edge + 1] = True

    def nearest_lost(self, z: int, y: int, x: int) -> int | None:
        """The squared distance of the nearest lost voxel; None if it is beyond the largest radius."""
        i, j, k = z // self._edge, y // self._edge, x // self._edge
        if not self._has_lost[i : i + 3, j : j + 3, k : k + 3].any():
            return None
        far = self._margin
        around = self._cells[z : z + 2 * far + 1, y : y + 2 * far + 1, x : x + 2 * far + 1]
        lost = np.argwhere(around & LOST)
        if not len(lost):
            return None
        squared = int(((lost - far) ** 2).sum(axis=1).min())
        return squared if squared <= self._last else None


class _Sets:
    """The voxels that may be picks so far, with both of their sets of radii, in hash grids: those that are sure at some radius, and the others."""

    def __init__(self, radii: Radii, cells: _Cells) -> None:
        self._radii, self._every, self._cells = radii, radii.every, cells
        self._edge = math.isqrt(radii.first) + 1
        self._shown = math.isqrt(radii.last) + 1
        self._sure: defaultdict[Triple, list[_Entry]] = defaultdict(list)
        self._unsure: defaultdict[Triple, list[_Entry]] = defaultdict(list)
        reach = -(-self._shown // self._edge)
        # the nearest cells first: nearly all end among them
        self._around = sorted(itertools.product(range(-reach, reach + 1), repeat=3), key=lambda cell: sum(edge * edge for edge in cell))

    def add(self, place: Triple, margin: int, *, is_in_doubt: bool) -> int:
        """Take the next voxel, around which `margin` voxels are shown, and return its `maybe`."""
        z, y, x = place
        first, last, every = self._radii.first, self._radii.last, self._every
        i, j, k = z // self._edge, y // self._edge, x // self._edge
        sure, maybe = self._sure, every
        found: list[tuple[int, int]] = []
        for u, v, w in self._around:
            for a, b, c, surely_u, maybe_u in sure.get((i + u, j + v, k + w), ()):
                squared = (a - z) ** 2 + (b - y) ** 2 + (c - x) ** 2
                if squared <= last:
                    beyond = squared - first if squared > first else 0
                    maybe &= ~(surely_u >> beyond << beyond)
                    if not maybe:
                        return 0
                    found.append((beyond, maybe_u))
        surely = 0 if is_in_doubt else every
        if surely and margin <= self._shown:
            surely &= (1 << max(0, margin * margin - first)) - 1  # radii below the margin
        for beyond, maybe_u in found if surely else ():
            surely &= ~(maybe_u >> beyond << beyond)
        if surely:
            surely = self._less_unsure(surely, place, (i, j, k))
        self._hold(place, (i, j, k), surely, maybe, is_in_doubt=is_in_doubt)
        return maybe

    def _less_unsure(self, surely: int, place: Triple, cell: Triple) -> int:
        """The radii of `surely` that no voxel takes away of which nothing is sure."""
        z, y, x = place
        i, j, k = cell
        first, last = self._radii.first, self._radii.last
        lost = self._cells.nearest_lost(z, y, x)
        if lost is not None:
            surely &= (1 << max(0, lost - first)) - 1
        for u, v, w in self._around if surely and self._unsure else ():
            for a, b, c, _, maybe_u in self._unsure.get((i + u, j + v, k + w), ()):
                squared = (a - z) ** 2 + (b - y) ** 2 + (c - x) ** 2
                if squared <= last:
                    beyond = squared - first if squared > first else 0
                    surely &= ~(maybe_u >> beyond << beyond)
            if not surely:
                break
        return surely

    def _hold(self, place: Triple, cell: Triple, surely: int, maybe: int, *, is_in_doubt: bool) -> None:
        """Keep a voxel for those that come later."""
        if surely:
            self._sure[cell].append((*place, surely, maybe))
            self._cells.paint_far(place, NEAR_SURE)
            if surely == self._every:
                self._cells.paint(place, COVERED)
                return
        elif maybe == self._every:
            self._cells.lose(*place)
        else:
            self._unsure[cell].append((*place, surely, maybe))
        if maybe == self._every and not is_in_doubt:
            self._cells.paint(place, DOUBT)
