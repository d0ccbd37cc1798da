"""Plan blocks for any scorer: those with the least reading that fit the memory, by the scorer's own projection.

1. Candidates are shards of whole chunks, each one block.  A scorer's `read_box` treats each axis by itself, so the voxels that all blocks
   read are a product over the axes of a sum over the blocks along an axis.
2. Try the candidates from the least reading (then the fewest blocks) to the most, and take the first that fits.  The memory of a
   candidate is that of the block that reads most along every axis.
3. If not even a chunk fits, halve the core inside a shard of one chunk, down to 8 voxels.

Limits: voxels that a scorer of two levels reads at its finer level don't count.  The U-Net has a planner of its own
(`strategies.unet.planning`), which has a formula for the cost and so can try all candidates at once.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.geometry import Box, Triple, triple
from tomostream.inference.plan import MARGIN_BYTES, READ_BYTES_PER_VOXEL, READ_VOXELS, PlanRequest, PredictionPlan, cores_along
from tomostream.inference.protocol import BlockScorer

SMALLEST_CORE_VOX = 8  # a smaller block would be nearly all halo
_CORNER = Box((0, 0, 0), (1, 1, 1))


def plan_scorer(request: PlanRequest, scorer: BlockScorer) -> PredictionPlan:
    """Choose shards and blocks for a scorer.

    Parameters
    ----------
    request
        The volume, the level that the scorer reads, the budget.
    scorer
        Projects what a block reads and costs.

    Returns
    -------
    PredictionPlan
        With stride 1 and radius 0: the scorer itself says what a block reads.

    Raises
    ------
    BudgetError
        If no block fits the memory, or the given one does not.
    """
    frame = request.frame(stride=1, radius=0, species=scorer.species)
    if request.block_size is not None:
        return request.with_given_block(request.block_size, frame, lambda shard, core: _sized(frame, shard, core, scorer))
    for shard in _by_reading(frame, scorer, request.longest):
        found = _sized(frame, shard, shard, scorer)
        if found.block_bytes <= request.memory:
            return found
    found = _sized(frame, frame.chunk, frame.chunk, scorer)
    core = max(frame.chunk)
    while found.block_bytes > request.memory and core > SMALLEST_CORE_VOX:
        core = max(SMALLEST_CORE_VOX, core // 2)
        found = _sized(frame, frame.chunk, triple([min(core, edge) for edge in frame.chunk]), scorer)
    if found.block_bytes > request.memory:
        raise request.refused(found.block_bytes)
    return found


def _by_reading(frame: PredictionPlan, scorer: BlockScorer, max_edge: int) -> Iterator[Triple]:
    """Yield the shards that may be chosen, from the least reading to the most."""
    axes = []
    for axis in range(3):
        n, chunk = frame.volume[axis], frame.chunk[axis]
        edges = range(chunk, max(1, min(-(-n // chunk), max_edge // chunk)) * chunk + 1, chunk)
        lengths = [[_read_length(frame, scorer, axis, *ends) for ends in cores_along(n, edge, edge)] for edge in edges]
        axes.append([(edge, sum(each), len(each)) for edge, each in zip(edges, lengths, strict=True)])

    def order(candidate: tuple[tuple[int, int, int], ...]) -> tuple[int, int, int]:
        edges, read, count = (math.prod(values) for values in zip(*candidate, strict=True))
        return read, count, edges

    for candidate in sorted(itertools.product(*axes), key=order):
        yield triple([edge for edge, _, _ in candidate])


def _read_length(frame: PredictionPlan, scorer: BlockScorer, axis: int, start: int, stop: int) -> int:
    """Return how many voxels of the scorer's level a core with these ends reads along an axis."""
    core = _along(_CORNER, axis, start, stop)
    return scorer.read_box(frame.block(core, core).needed, frame.level_shape).shape[axis]


def _sized(frame: PredictionPlan, shard: Triple, core: Triple, scorer: BlockScorer) -> PredictionPlan:
    """Return the frame with this shard and core, and the projected peak of the block that reads most along every axis."""
    shape = frame.level_shape
    voxels = math.prod(min(s, n) for s, n in zip(shard, frame.volume, strict=True))
    scores = 4 * frame.species * voxels
    storing = scores + 4 * voxels
    worst = _CORNER
    for axis in range(3):
        cores = cores_along(frame.volume[axis], shard[axis], core[axis])
        _, _, start, stop = max((_read_length(frame, scorer, axis, *ends), ends[1] - ends[0], *ends) for ends in cores)
        worst = _along(worst, axis, start, stop)
    needed = frame.block(worst, worst).needed
    read = scorer.read_box(needed, shape).size
    reading = 4 * read + READ_BYTES_PER_VOXEL * min(read, READ_VOXELS)
    most = max(storing, scores + max(reading, scorer.block_bytes(needed, shape)))
    return replace(frame, shard=shard, core=core, block_bytes=LIBRARIES_BYTES + TORCH_BYTES + MARGIN_BYTES + most)


def _along(box: Box, axis: int, start: int, stop: int) -> Box:
    """Return the box with new ends along one axis."""
    starts, stops = list(box.start), list(box.stop)
    starts[axis], stops[axis] = start, stop
    return Box(triple(starts), triple(stops))
