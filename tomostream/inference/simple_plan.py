"""In which blocks does any scorer go through a volume?  The largest that fit the memory, by what the scorer itself says that they cost.

1. Begin with one shard for the whole volume, or as large as a shard may be.
2. While its blocks don't fit, halve the shard's longest edge (in whole chunks): large blocks read few voxels twice.
3. Where not even a chunk fits, halve the core inside a shard of one chunk, down to 8 voxels.

Limits: the U-Net has a planner of its own (`plan.py`), which finds the least redundant blocks; here the scorer's cost is a black box.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from tomostream import defaults
from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.errors import BudgetError
from tomostream.geometry import Box, Triple, triple
from tomostream.inference.plan import MARGIN_BYTES, MAX_SHARD_VOX, READ_BYTES_PER_VOXEL, READ_VOXELS, PredictionPlan
from tomostream.inference.protocol import BlockScorer, TwoLevelScorer
from tomostream.inference.upsample import supporting_box
from tomostream.store.pyramid import level_shape
from tomostream.units import format_bytes

SMALLEST_CORE_VOX = 8  # below that a block is nearly all halo


def plan_scorer(
    volume: Triple,
    *,
    level: int,
    scorer: BlockScorer,
    memory: int,
    block_size: Triple | None,
    name: str,
    chunk: int = defaults.CHUNK_VOX,
    max_edge: int = MAX_SHARD_VOX,
) -> PredictionPlan:
    """Choose shards and blocks for a scorer.

    Parameters
    ----------
    volume
        Shape of level 0, voxels.
    level
        Pyramid level that the scorer reads.
    scorer
        Says what a block reads and costs.
    memory
        Budget of one process, libraries included, bytes.
    block_size
        Level-0 edges of a block's core; None: chosen.
    name
        Of the tomogram, for the message.
    chunk
        Edge of the score map's chunks, voxels.
    max_edge
        Largest edge of a chosen shard, voxels.

    Returns
    -------
    PredictionPlan
        Of stride 1 and radius 0: what its blocks read is up to the scorer.

    Raises
    ------
    BudgetError
        If no block fits the memory, or the given one does not.
    """
    frame = PredictionPlan(
        volume=volume,
        level=level,
        stride=1,
        radius=0,
        chunk=triple(chunk),
        shard=triple(chunk),
        core=triple(chunk),
        species=scorer.species,
        block_bytes=0,
    )
    if block_size is not None:
        shard = triple([max(-(-defaults.SHARD_VOX // chunk), -(-edge // chunk)) * chunk for edge in block_size])
        found = _sized(frame, shard, block_size, scorer)
        if found.block_bytes > memory:
            raise BudgetError(
                f"predicting {name} needs {format_bytes(found.block_bytes)} per block (core {','.join(map(str, block_size))}) but the memory budget is "
                f"{format_bytes(memory)}; lower --block-size, leave it out, or raise --memory"
            )
        return found
    edges = [min(-(-n // chunk), max(1, max_edge // chunk)) for n in volume]  # in chunks
    while True:
        shard = triple([edge * chunk for edge in edges])
        found = _sized(frame, shard, shard, scorer)
        if found.block_bytes <= memory:
            return found
        axis = edges.index(max(edges))
        if edges[axis] == 1:
            break
        edges[axis] = -(-edges[axis] // 2)
    core = chunk
    while found.block_bytes > memory and core > SMALLEST_CORE_VOX:
        core //= 2
        found = _sized(frame, frame.chunk, triple(core), scorer)
    if found.block_bytes > memory:
        raise BudgetError(
            f"predicting {name} needs at least {format_bytes(found.block_bytes)} but the memory budget is {format_bytes(memory)}; raise --memory to that"
        )
    return found


def _sized(frame: PredictionPlan, shard: Triple, core: Triple, scorer: BlockScorer) -> PredictionPlan:
    """The frame with this shard and core, and the projected bytes of its most costly block."""
    plan = replace(frame, shard=shard, core=core)
    shape = plan.level_shape
    voxels = math.prod(min(s, n) for s, n in zip(shard, frame.volume, strict=True))
    scores = 4 * frame.species * voxels
    most = scores + 4 * voxels  # while the shard is stored

    def needed_bytes(core: Box) -> int:
        own = _scoring_bytes(scorer, plan.block(core, core).needed, shape)
        if not isinstance(scorer, TwoLevelScorer):
            return scores + own
        fine_shape = level_shape(frame.volume, scorer.fine_level)
        fine = _scoring_bytes(scorer.fine, supporting_box(core, scorer.fine_level, fine_shape), fine_shape)
        return scores + max(own, fine + 4 * frame.species * core.size * (scorer.fine_level > 0))

    worst = Box((0, 0, 0), (1, 1, 1))
    for axis in range(3):
        # what a block costs grows with what it reads along each axis, so the axes can be looked at one by one
        parts = [_along(worst, axis, *ends) for ends in _cores(frame.volume[axis], shard[axis], core[axis])]
        worst = max(parts, key=needed_bytes)
    most = max(most, needed_bytes(worst))
    return replace(plan, block_bytes=LIBRARIES_BYTES + TORCH_BYTES + MARGIN_BYTES + most)


def _scoring_bytes(scorer: BlockScorer, needed: Box, shape: Triple) -> int:
    """Peak of reading and scoring a box."""
    read = scorer.read_box(needed, shape).size
    return max(4 * read + READ_BYTES_PER_VOXEL * min(read, READ_VOXELS), scorer.block_bytes(needed, shape))


def _cores(n: int, shard: int, core: int) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) voxel of the cores along one axis."""
    for first in range(0, n, shard):
        last = min(first + shard, n)
        yield from ((start, min(start + core, last)) for start in range(first, last, core))


def _along(box: Box, axis: int, start: int, stop: int) -> Box:
    """The box with other ends along one axis."""
    starts, stops = list(box.start), list(box.stop)
    starts[axis], stops[axis] = start, stop
    return Box(triple(starts), triple(stops))
