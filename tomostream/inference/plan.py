"""Plan prediction: the blocks in which a volume is scored, the core of each, and what must be read for it.

Scores are on the grid of level 0.  A scorer reads level L, which is 2^L times smaller (shape ceil(n / 2^L)) and is extended at its far
ends to a multiple of the scorer's stride.  A block has a core on level 0.  What it reads, along one axis and away from the faces:

      level 0          [        core        )
      level L       [ supporting voxels of interpolation )
               [radius|                                  |radius]      <- on which the logits there depend
             [        aligned outwards to multiples of the stride      )

clipped to the extended volume.  At a face there is no halo: the network's own zero padding applies, in a block as in the whole volume.
`block_search` chooses the blocks for any scorer; a strategy with a formula for its cost may have its own planner.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tomostream import defaults
from tomostream.errors import BudgetError
from tomostream.geometry import BlockGrid, Box, Triple, triple
from tomostream.inference.protocol import BlockScorer
from tomostream.store.edges import even_chunk
from tomostream.units import format_bytes
from tomostream.upsample import supporting_box

MAX_SHARD_VOX = 512  # edge of a planned shard: keeps a task's length, what a kill can lose, and a shard's bytes (2^31) bounded
READ_VOXELS = 2**22  # voxels of a block that are read at a time
READ_BYTES_PER_VOXEL = 18  # raw, centred and normalised values, and a mask of finite ones
MARGIN_BYTES = 30_000_000  # for interpolation, sigmoid and encoding, which work piece by piece


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """One block: its core, and what must be read for it.

    Parameters
    ----------
    shard, core
        Level-0 voxels: the shard that its task writes, and the part that this block computes.
    needed
        Voxels of the level whose logits are needed.
    read
        Voxels of the level that the network gets; may leave the true volume at its far ends, where the last voxels are repeated.
    """

    shard: Box
    core: Box
    needed: Box
    read: Box


@dataclass(frozen=True, slots=True)
class PredictionPlan:
    """The blocks in which one volume is scored; small, and the same on every machine.

    Parameters
    ----------
    volume
        Shape of level 0.
    level, stride, radius
        Pyramid level that the network reads; its total stride; how far it sees, voxels of the level.
    chunk, shard
        Of the score map.
    core
        Level-0 edges of a block.
    species
        Number of the network's outputs.
    block_bytes
        Projected peak of a process that scores and stores one shard, libraries included.
    """

    volume: Triple
    level: int
    stride: int
    radius: int
    chunk: Triple
    shard: Triple
    core: Triple
    species: int
    block_bytes: int

    @property
    def level_shape(self) -> Triple:
        """Shape of the volume at the network's level."""
        return triple([-(-n // 2**self.level) for n in self.volume])

    @property
    def extended_shape(self) -> Triple:
        """`level_shape`, extended to multiples of the stride."""
        return triple([-(-n // self.stride) * self.stride for n in self.level_shape])

    def shard_over(self, block: Triple) -> Triple:
        """Return the smallest shard of whole chunks that holds the default shard and a block of these edges."""
        return triple([-(-max(defaults.SHARD_VOX, edge) // c) * c for edge, c in zip(block, self.chunk, strict=True)])

    @property
    def stored_voxels(self) -> int:
        """Voxels of all chunks of a score map."""
        return math.prod(-(-n // c) * c for n, c in zip(self.volume, self.chunk, strict=True))

    @property
    def shards(self) -> BlockGrid:
        """The tasks: each owns one shard."""
        return BlockGrid(self.volume, self.shard)

    def blocks(self, region: Box) -> Iterator[BlockPlan]:
        """Yield the blocks of a part of the volume, z slowest; cores are cut to the region."""
        for index in self.shards.touching(region):
            shard = self.shards.core(index)
            grid = BlockGrid(shard.shape, self.core)
            for core in grid.cores():
                part = core.shifted(shard.start).clipped(region)
                if not part.is_empty:
                    yield self.block(shard, part)

    def block(self, shard: Box, core: Box) -> BlockPlan:
        """Return the block that computes `core`."""
        needed = supporting_box(core, self.level, self.level_shape)
        read = needed.expanded(self.radius).aligned(self.stride).clipped(Box.whole(self.extended_shape))
        return BlockPlan(shard, core, needed, read)

    @property
    def computed_voxels(self) -> int:
        """Voxels that the network computes in all blocks."""
        return sum(block.read.size for block in self.blocks(Box.whole(self.volume)))

    @property
    def redundancy(self) -> float:
        """Voxels that the network computes, over those of the extended volume; at least 1."""
        return self.computed_voxels / math.prod(self.extended_shape)

    def redundancy_of(self, scorer: BlockScorer) -> float:
        """Voxels that a scorer reads in all blocks, over those of the extended volume; at least 1."""
        shape = self.level_shape
        read = sum(scorer.read_box(block.needed, shape).size for block in self.blocks(Box.whole(self.volume)))
        whole = scorer.read_box(Box.whole(shape), shape).size
        return read / whole


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What to plan blocks for: the volume and the limits, the same for every scorer.

    Parameters
    ----------
    volume
        Shape of level 0, voxels.
    level
        Pyramid level that the scorer reads.
    memory
        Budget of one process, libraries included, bytes.
    block_size
        Level-0 edges of a block's core; None: the planner chooses.
    name
        Of the tomogram, for error messages.
    chunk
        Of the score map, voxels; None: edges that divide the volume well (`store.edges`).
    max_edge
        Largest edge of a chosen shard, voxels; None: `MAX_SHARD_VOX`.
    """

    volume: Triple
    level: int
    memory: int
    block_size: Triple | None
    name: str
    chunk: Triple | None = None
    max_edge: int | None = None

    @property
    def longest(self) -> int:
        """Largest edge of a chosen shard, voxels."""
        return self.max_edge or MAX_SHARD_VOX

    def frame(self, *, stride: int, radius: int, species: int) -> PredictionPlan:
        """Return a plan whose shard and core are still to be chosen: they are one chunk."""
        chunk = even_chunk(self.volume) if self.chunk is None else self.chunk
        return PredictionPlan(self.volume, self.level, stride, radius, chunk, chunk, chunk, species, 0)

    def with_given_block(
        self, block: Triple, frame: PredictionPlan, sized: Callable[[Triple, Triple], PredictionPlan], facts: str = ""
    ) -> PredictionPlan:
        """Return the plan whose core is the block that the user gave.

        Parameters
        ----------
        block
            Level-0 edges.
        frame
            See `frame`.
        sized
            Returns the plan of a shard and a core, with its projected bytes.
        facts
            Added to the error message, after the block's edges.

        Raises
        ------
        BudgetError
            If it does not fit the memory.
        """
        found = sized(frame.shard_over(block), block)
        if found.block_bytes > self.memory:
            raise BudgetError(
                f"predicting {self.name} needs {format_bytes(found.block_bytes)} per block (core {','.join(map(str, block))}{facts}) "
                f"but the memory budget is {format_bytes(self.memory)}; lower --block-size, leave it out, or raise --memory"
            )
        return found

    def refused(self, least: int, facts: str = "", remedy: str = "") -> BudgetError:
        """Return the error for a budget that no block fits; `least` is what the smallest block needs, bytes."""
        return BudgetError(
            f"predicting {self.name} needs at least {format_bytes(least)}{facts} but the memory budget is {format_bytes(self.memory)}; "
            f"raise --memory to that{remedy}"
        )


def cores_along(n: int, shard: int, core: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of the cores along an axis of `n` voxels, for these edges of shard and core."""
    for first in range(0, n, shard):
        last = min(first + shard, n)
        yield from ((start, min(start + core, last)) for start in range(first, last, core))
