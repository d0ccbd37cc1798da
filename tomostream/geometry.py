"""Which voxels belong to which block?  Boxes and block grids as frozen values; no I/O.

A box is half-open, in voxels, ordered z y x.  A block grid tiles a volume once with equal cores (the last of an axis may be shorter).
A block's *core* is what it owns and writes; its *halo* is what it reads besides:

        read box (core expanded by the halo, clipped to the volume)
       +----------------------+
       |  halo                |
       |    +------------+    |
       |    |    core    |    |
       |    +------------+    |
       +----------------------+

Every voxel has exactly one owning core, so a result that is written by cores never shows a boundary twice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

Triple = tuple[int, int, int]


def triple(value: int | tuple[int, ...] | list[int]) -> Triple:
    """Return `value` as (z, y, x); one number stands for all three."""
    if isinstance(value, int):
        return (value, value, value)
    z, y, x = value
    return (int(z), int(y), int(x))


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of voxels: `start <= voxel < stop`, both (z, y, x)."""

    start: Triple
    stop: Triple

    @classmethod
    def whole(cls, shape: Triple) -> Box:
        """The box of a whole volume of this shape."""
        return cls((0, 0, 0), triple(shape))

    @property
    def shape(self) -> Triple:
        """Edge lengths; an empty box has zeros."""
        z, y, x = (max(0, b - a) for a, b in zip(self.start, self.stop, strict=True))
        return (z, y, x)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def is_empty(self) -> bool:
        """Whether the box holds no voxel."""
        return self.size == 0

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index into a volume's array."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return (z, y, x)

    def expanded(self, halo: int | Triple) -> Box:
        """Grow by `halo` voxels on each side (not clipped)."""
        h = triple(halo)
        return Box(_map(self.start, h, -1), _map(self.stop, h, +1))

    def clipped(self, other: Box) -> Box:
        """The common part of both boxes; empty if there is none."""
        start = triple([max(a, b) for a, b in zip(self.start, other.start, strict=True)])
        stop = triple([max(s, min(a, b)) for s, a, b in zip(start, self.stop, other.stop, strict=True)])
        return Box(start, stop)

    def relative_to(self, origin: Triple) -> Box:
        """The same box counted from `origin` (for indexing an array that begins there)."""
        return Box(_map(self.start, origin, -1), _map(self.stop, origin, -1))

    def shifted(self, offset: Triple) -> Box:
        """The same box moved by `offset`."""
        return Box(_map(self.start, offset, +1), _map(self.stop, offset, +1))

    def aligned(self, stride: int) -> Box:
        """The smallest box that holds this one, with start and stop multiples of `stride`."""
        start = triple([a // stride * stride for a in self.start])
        stop = triple([-(-b // stride) * stride for b in self.stop])
        return Box(start, stop)

    def contains(self, other: Box) -> bool:
        """Whether `other` lies wholly inside (an empty box always does)."""
        return other.is_empty or self.clipped(other) == other

    def __str__(self) -> str:
        return ", ".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))


def _map(a: Triple, b: Triple, sign: int) -> Triple:
    return (a[0] + sign * b[0], a[1] + sign * b[1], a[2] + sign * b[2])


def halves(box: Box) -> tuple[Box, Box]:
    """Cut a box in two across its longest edge."""
    axis = box.shape.index(max(box.shape))
    middle = (box.start[axis] + box.stop[axis]) // 2
    stop, start = list(box.stop), list(box.start)
    stop[axis] = start[axis] = middle
    return Box(box.start, triple(stop)), Box(triple(start), box.stop)


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """A tiling of a volume `shape` by cores of shape `block` (both z, y, x); cores at the far faces may be shorter."""

    shape: Triple
    block: Triple

    def __post_init__(self) -> None:
        if min(self.block) < 1:
            raise ValueError(f"a block's edges must be at least 1 voxel, found {self.block}")

    @property
    def counts(self) -> Triple:
        """Number of blocks along z, y, x."""
        return triple([-(-n // b) for n, b in zip(self.shape, self.block, strict=True)])

    def __len__(self) -> int:
        return math.prod(self.counts)

    def indices(self) -> Iterator[Triple]:
        """All block indices, z slowest."""
        nz, ny, nx = self.counts
        yield from itertools.product(range(nz), range(ny), range(nx))

    def core(self, index: Triple) -> Box:
        """The voxels that block `index` owns."""
        start = triple([i * b for i, b in zip(index, self.block, strict=True)])
        stop = triple([min(a + b, n) for a, b, n in zip(start, self.block, self.shape, strict=True)])
        return Box(start, stop)

    def cores(self) -> Iterator[Box]:
        """All cores, z slowest."""
        return (self.core(index) for index in self.indices())

    def owner(self, voxel: Triple) -> Triple:
        """The index of the one block whose core holds `voxel`."""
        return triple([v // b for v, b in zip(voxel, self.block, strict=True)])

    def touching(self, box: Box) -> Iterator[Triple]:
        """The indices of all blocks whose cores share a voxel with `box`, z slowest."""
        part = box.clipped(Box.whole(self.shape))
        if part.is_empty:
            return
        z, y, x = (range(first // b, -(-last // b)) for first, last, b in zip(part.start, part.stop, self.block, strict=True))
        yield from itertools.product(z, y, x)
