"""By which blocks were the values of a coarser level computed, and which of them belong together?  Geometry only, no I/O.

Scores are computed in blocks, and the logits of a block are interpolated to its core (`upsample`).  At a core's faces that needs the coarse
voxels of the neighbours too, so two blocks compute them; their last bits may differ.  For the interpolated scores to be the same, bit for bit,
whether they are interpolated before they are stored or after, both values are kept:

- a block *owns* the coarse voxels whose first level-0 voxel lies in its core; these make up the coarse level, each once;
- its *seams* are the other voxels between which those of its core lie, as that block computed them.

The seams of a shard's blocks are a row of values: block after block (z slowest), of each up to six slabs, z first.  Rows are filled up with zeros to
the length of the longest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tomostream.geometry import BlockGrid, Box, Triple, triple
from tomostream.upsample import supporting_box


@dataclass(frozen=True, slots=True)
class CoarseBlock:
    """A block.

    Parameters
    ----------
    core
        Level-0 voxels.
    needed
        Voxels of the coarse level between which those of the core lie.
    owned
        Those of them that the block owns; may be empty.
    seams
        The others, as slabs, each with the place of its first value in the row.
    """

    core: Box
    needed: Box
    owned: Box
    seams: tuple[tuple[Box, int], ...]


@dataclass(frozen=True, slots=True)
class CoarseGrid:
    """The blocks.

    Parameters
    ----------
    volume
        Shape of level 0.
    level
        The coarse level, at least 1.
    shard
        Level-0 edges of a shard: multiples of 2^level, unless they span the volume.
    core
        Level-0 edges of a block, counted from its shard's corner.
    """

    volume: Triple
    level: int
    shard: Triple
    core: Triple

    @property
    def level_shape(self) -> Triple:
        """Shape of the coarse level."""
        return self._coarse(self.volume)

    @property
    def shards(self) -> BlockGrid:
        """The shards, in level-0 voxels."""
        return BlockGrid(self.volume, self.shard)

    def owned(self, core: Box) -> Box:
        """Return the coarse voxels that a block or shard with this core owns."""
        start, stop = self._coarse(core.start), self._coarse(core.stop)
        return Box(start, stop)

    def blocks(self, index: Triple) -> Iterator[CoarseBlock]:
        """Yield the blocks of a shard, z slowest."""
        shard, first = self.shards.core(index), 0
        for part in BlockGrid(shard.shape, self.core).cores():
            core = part.shifted(shard.start)
            needed, owned = supporting_box(core, self.level, self.level_shape), self.owned(core)
            seams: list[tuple[Box, int]] = []
            for slab in _outside(needed, owned):
                seams.append((slab, first))
                first += slab.size
            yield CoarseBlock(core, needed, owned, tuple(seams))

    @property
    def seam_values(self) -> int:
        """Length of the longest row of seams; 0 for a single block."""
        axes: list[set[tuple[int, int]]] = []
        for axis in range(3):
            n, shard, core = self.volume[axis], self.shard[axis], self.core[axis]
            axes.append({self._along(axis, first, min(first + shard, n), core) for first in range(0, n, shard)})
        return max(int(np.prod([needed for needed, _ in one]) - np.prod([owned for _, owned in one])) for one in itertools.product(*axes))

    def _along(self, axis: int, first: int, last: int, core: int) -> tuple[int, int]:
        """Return how many coarse voxels the blocks of a shard need along an axis, all together, and how many they own."""
        needed = 0
        for start in range(first, last, core):
            box = Box(_on(axis, start, 0), _on(axis, min(start + core, last), 1))
            needed += supporting_box(box, self.level, self.level_shape).shape[axis]
        return needed, -(-last // 2**self.level) - -(-first // 2**self.level)

    def _coarse(self, voxel: Triple) -> Triple:
        return triple([-(-n // 2**self.level) for n in voxel])


def _on(axis: int, value: int, elsewhere: int) -> Triple:
    return triple([value if number == axis else elsewhere for number in range(3)])


def _outside(box: Box, inner: Box) -> Iterator[Box]:
    """Yield the part of a box outside another one that lies in it, as slabs: before and after it along z, then y, then x."""
    if inner.is_empty:
        yield box
        return
    start, stop = list(box.start), list(box.stop)
    for axis in range(3):
        for first, last in ((start[axis], inner.start[axis]), (inner.stop[axis], stop[axis])):
            if first < last:
                low, high = list(start), list(stop)
                low[axis], high[axis] = first, last
                yield Box(triple(low), triple(high))
        start[axis], stop[axis] = inner.start[axis], inner.stop[axis]
