"""Score a shard at the scorer's own level: the logits that `region_scoring` would interpolate, before it does.

The blocks are those of the plan, so what is interpolated on reading (`coarse_scores`) has the bits of what would have been written.  On a GPU the
logits come back to the host as they are; if its memory is too small for a block, that is halved.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from tomostream.coarse_grid import CoarseGrid
from tomostream.errors import DeviceMemoryError
from tomostream.geometry import Box, Triple, halves
from tomostream.inference.plan import PredictionPlan
from tomostream.inference.protocol import BlockScorer
from tomostream.inference.region_scoring import Reader, read_extended


def grid_of(plan: PredictionPlan) -> CoarseGrid:
    """Return the blocks of a plan as a grid of the coarse level."""
    return CoarseGrid(plan.volume, plan.level, plan.shard, plan.core)


def level_shard(
    read: Reader, plan: PredictionPlan, index: Triple, scorer: BlockScorer, *, note: Callable[[str], object]
) -> tuple[Float32[np.ndarray, "s z y x"], Float32[np.ndarray, "s n"]]:
    """Return the logits of a shard's own voxels at the level, and the rows of its seams; a value for each species.

    Parameters
    ----------
    read
        Reads a box of the volume at the scorer's level, standardised.
    plan
        The blocks; of a level above 0.
    index
        The shard's (z, y, x) index.
    scorer
        The scorer that the plan was made for.
    note
        Called with a message when a block did not fit the GPU's memory.

    Raises
    ------
    DeviceMemoryError
        If not even a voxel fits into the GPU's memory.
    """
    grid = grid_of(plan)
    own = grid.owned(grid.shards.core(index))
    values = np.empty((scorer.species, *own.shape), dtype=np.float32)
    rows = np.zeros((scorer.species, grid.seam_values), dtype=np.float32)
    for block in grid.blocks(index):
        logits = _logits(read, plan.level_shape, block.needed, scorer, note)
        inside = (slice(None), *block.owned.relative_to(block.needed.start).slices)
        values[(slice(None), *block.owned.relative_to(own.start).slices)] = logits[inside]
        for slab, first in block.seams:
            part = logits[(slice(None), *slab.relative_to(block.needed.start).slices)]
            rows[:, first : first + slab.size] = part.reshape(scorer.species, -1)
    return values, rows


def _logits(read: Reader, shape: Triple, needed: Box, scorer: BlockScorer, note: Callable[[str], object]) -> np.ndarray:
    box = scorer.read_box(needed, shape)
    try:
        return scorer.logits(read_extended(read, box, shape), box, needed, shape)
    except DeviceMemoryError as error:
        if max(needed.shape) == 1:
            raise
        short = str(error)  # go on only after the error is gone, since its frames keep memory on the device
    note(f"{short}; going on with half the block")
    parts = halves(needed)
    axis = next(number for number in range(3) if parts[0].stop[number] != needed.stop[number])
    return np.concatenate([_logits(read, shape, half, scorer, note) for half in parts], axis=axis + 1)
