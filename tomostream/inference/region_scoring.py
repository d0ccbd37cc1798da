"""Score a part of a volume, block after block, each with its own halo.

1. Read the block's box at the scorer's level, piece by piece; where the box leaves the volume at its far ends, repeat the last voxels.
2. Compute the logits of the voxels between which the core's level-0 voxels lie (`protocol.py`); at level 0 a streaming scorer writes them
   straight to their place.
3. Interpolate the logits to level 0 (`upsample.py`), then apply the sigmoid in float32.

If a GPU's memory is too small for a block, its core is halved along the longest edge, until it fits.
"""

import math
from collections.abc import Callable, Iterator
from typing import TypedDict

import numpy as np
from jaxtyping import Float32, Shaped

from tomostream.coarse_scores import sigmoid
from tomostream.errors import DeviceMemoryError
from tomostream.geometry import BlockGrid, Box, Triple, halves
from tomostream.inference.plan import READ_VOXELS, BlockPlan, PredictionPlan
from tomostream.inference.protocol import BlockScorer, StreamingScorer
from tomostream.upsample import upsample

Reader = Callable[[Box], np.ndarray]  # standardised float32 voxels of a box of the true volume at the scorer's level
READ_EDGE = 64  # pieces begin at multiples of this, as the chunks of most stores do
SCORE_STEPS = 254  # of an int8 score between 0 and 1
SCORE_ZERO = -127  # the int8 of score 0; -128 is a missing score


def score_region(
    read: Reader, plan: PredictionPlan, region: Box, scorer: BlockScorer, *, as_logits: bool, note: Callable[[str], object]
) -> Float32[np.ndarray, "s z y x"]:
    """Score a region of level 0.

    Parameters
    ----------
    read
        Reads a box of the volume at the scorer's level, standardised.
    plan
        The blocks.
    region
        Level-0 voxels; usually a shard's core.
    scorer
        The network, or any other scorer that the plan was made for.
    as_logits
        Logits instead of probabilities.
    note
        Called with a message when a block did not fit the GPU's memory.

    Returns
    -------
    np.ndarray
        Probabilities in [0, 1] (or logits), shape (species, z, y, x) of the region.

    Raises
    ------
    DeviceMemoryError
        If not even a core of one voxel fits into the GPU's memory.
    """
    result = np.empty((scorer.species, *region.shape), dtype=np.float32)
    for block in plan.blocks(region):
        _score_block(read, plan, block, scorer, result, region, note)
    if not as_logits:
        for species in result:
            sigmoid(species)
    return result


def score_volume(
    volume: Float32[np.ndarray, "z y x"], plan: PredictionPlan, scorer: BlockScorer, *, as_logits: bool
) -> Float32[np.ndarray, "s Z Y X"]:
    """Score a standardised volume in memory.

    Parameters
    ----------
    volume
        At the scorer's level, standardised.
    plan
        The blocks.  Its projected bytes do not include the volume and the result.
    scorer
        The scorer that the plan was made for.
    as_logits
        Logits instead of probabilities.
    """
    whole = Box.whole(plan.volume)
    return score_region(lambda box: volume[box.slices], plan, whole, scorer, as_logits=as_logits, note=lambda _: None)


def _score_block(
    read: Reader,
    plan: PredictionPlan,
    block: BlockPlan,
    scorer: BlockScorer,
    result: np.ndarray,
    region: Box,
    note: Callable[[str], object],
) -> None:
    """Write the block's logits on level 0 into `result`, which begins at the region's start."""
    shape, needed = plan.level_shape, block.needed
    box = scorer.read_box(needed, shape)
    image = read_extended(read, box, shape)
    out = result[(slice(None), *block.core.relative_to(region.start).slices)]
    short = None
    try:
        if plan.level == 0 and isinstance(scorer, StreamingScorer):  # straight to its place
            for first, planes in scorer.planes(image, box, needed, shape):
                out[:, first : first + planes.shape[1]] = planes
            return
        logits = scorer.logits(image, box, needed, shape)
    except DeviceMemoryError as error:
        if max(block.core.shape) == 1:
            raise
        short = str(error)  # go on only after the error is gone, since its frames keep memory on the device
    del image
    if short is not None:
        note(f"{short}; going on with half the block")
        for half in halves(block.core):
            _score_block(read, plan, plan.block(block.shard, half), scorer, result, region, note)
        return
    upsample(logits, needed.start, block.core, plan.level, shape, out)


def read_extended(read: Reader, box: Box, shape: Triple) -> Float32[np.ndarray, "z y x"]:
    """Read a box that may leave the volume at its far ends, where the last voxels are repeated.

    Parameters
    ----------
    read
        Reads boxes inside the volume.
    box
        Must begin inside the volume.
    shape
        Of the volume.
    """
    inside = box.clipped(Box.whole(shape))
    result = np.empty(box.shape, dtype=np.float32)
    for piece in _pieces(inside):
        result[piece.relative_to(box.start).slices] = read(piece)
    for axis in range(3):
        n = inside.shape[axis]
        if n < box.shape[axis]:
            moved = np.moveaxis(result, axis, 0)
            moved[n:] = moved[n - 1]
    return result


def _pieces(box: Box) -> Iterator[Box]:
    """Yield the box in pieces of at most about `READ_VOXELS`, split along z and y at multiples of `READ_EDGE`."""
    rows = max(1, READ_VOXELS // (READ_EDGE * READ_EDGE * max(1, box.shape[2]))) * READ_EDGE
    grid = BlockGrid(box.stop, (READ_EDGE, rows, max(1, box.stop[2])))
    return (grid.core(index).clipped(box) for index in grid.touching(box))


def encode_scores(scores: Float32[np.ndarray, "z y x"], dtype: str) -> Shaped[np.ndarray, "z y x"]:
    """Convert scores to the type in which they are stored.

    Parameters
    ----------
    scores
        Probabilities in [0, 1], or logits (not for int8); NaN is a missing score.
    dtype
        float32 and float16: rounded.  int8: round(254 p) - 127, so p = (stored + 127) / 254 to 0.002; -128 is a missing score.
    """
    if dtype != "int8":
        return scores.astype(np.dtype(dtype), copy=False)
    result = np.empty(scores.shape, dtype=np.int8)
    for plane, out in zip(scores, result, strict=True):
        stored = np.rint(plane * np.float32(SCORE_STEPS))
        stored += np.float32(SCORE_ZERO)
        stored[np.isnan(stored)] = SCORE_ZERO - 1
        out[...] = stored
    return result


def missing_score(dtype: str) -> float:
    """Return the value that is stored for a missing score."""
    return float(SCORE_ZERO - 1) if dtype == "int8" else math.nan


class ScoreEncoding(TypedDict, total=False):
    """How stored scores are decoded: score = stored * score_scale + score_offset."""

    score_scale: float
    score_offset: float
    score_missing: int


def encoding_attributes(dtype: str) -> ScoreEncoding:
    """Return the attributes to decode stored scores by (score = stored * score_scale + score_offset); empty for float types."""
    if dtype != "int8":
        return {}
    return {"score_scale": 1 / SCORE_STEPS, "score_offset": -SCORE_ZERO / SCORE_STEPS, "score_missing": SCORE_ZERO - 1}
