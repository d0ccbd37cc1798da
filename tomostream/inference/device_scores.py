"""Score a part of a volume where a GPU does everything between reading and writing.

1. Read the block's box at the scorer's level, and copy it to the device.
2. On the device, compute the logits (`DeviceScorer`), then interpolate them, apply the sigmoid and encode them, a piece of the block at a
   time.  Only the encoded scores are copied back.
3. Several threads may do this at once, each for a region of its own: the device computes for one at a time (`exact_turn`), on one stream,
   while others read, write, or copy to and from the device on streams of their own.

A block that is too large for the device's memory is halved along the longest edge of its core, until it fits.

Limits: interpolation gives the same bits as on the processor; the last digits of the network's sums and of the sigmoid don't.
"""

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Shaped

from tomostream.errors import DeviceMemoryError
from tomostream.geometry import BlockGrid, Box, Triple, halves
from tomostream.inference.plan import BlockPlan, PredictionPlan
from tomostream.inference.protocol import BlockScorer
from tomostream.inference.region_scoring import SCORE_STEPS, SCORE_ZERO, Reader, missing_score, read_extended
from tomostream.learn.device_memory import device_memory, exact_turn
from tomostream.upsample import neighbours

_REMEDY = "lower --block-size or use --device cpu"
_LEAST_PIECE, _LARGEST_PIECE = 2**18, 2**26  # voxels of level 0
_PIECE_BYTES = 24  # per voxel of a piece: its inputs, the copies that are blended, and the encoded score
_PIECES_SHARE = 8  # a piece takes at most this fraction (one eighth) of the device's memory


@runtime_checkable
class DeviceScorer(BlockScorer, Protocol):
    """A scorer whose logits can stay on a device."""

    @property
    def device(self) -> torch.device:
        """The device on which it computes."""

    @property
    def memory(self) -> int:
        """Bytes of the device's memory that its plan allows."""

    def device_logits(
        self, image: Float32[torch.Tensor, "z y x"], read: Box, needed: Box, shape: Triple
    ) -> Float32[torch.Tensor, "s Z Y X"]:
        """Compute `BlockScorer.logits` of an image on the device; called inside an `exact_turn`."""


def stored_region(
    read: Reader,
    plan: PredictionPlan,
    region: Box,
    scorer: DeviceScorer,
    *,
    as_logits: bool,
    dtype: str,
    note: Callable[[str], object],
) -> Shaped[np.ndarray, "s z y x"]:
    """Score a region of level 0; return the scores in the type in which they are stored.

    Parameters
    ----------
    dtype
        See `region_scoring.encode_scores`.
    read, plan, region, scorer, as_logits, note
        See `region_scoring.score_region`.

    Raises
    ------
    DeviceMemoryError
        If not even a core of one voxel fits into the device's memory.
    """
    result = np.empty((scorer.species, *region.shape), dtype=np.dtype(dtype))
    result.fill(0)  # makes the system hand out the memory now, while other threads compute, and not during a copy
    encode = _Encoding(dtype, as_logits=as_logits)
    for block in plan.blocks(region):
        _store_block(read, plan, block, scorer, encode, result[(slice(None), *block.core.relative_to(region.start).slices)], note)
    return result


def _store_block(
    read: Reader,
    plan: PredictionPlan,
    block: BlockPlan,
    scorer: DeviceScorer,
    encode: "_Encoding",
    out: np.ndarray,
    note: Callable[[str], object],
) -> None:
    box = scorer.read_box(block.needed, plan.level_shape)
    image = read_extended(read, box, plan.level_shape)
    short = None
    try:
        _compute(image, box, plan, block, scorer, encode, out)
    except DeviceMemoryError as error:
        if max(block.core.shape) == 1:
            raise
        short = str(error)  # go on only after the error is gone, since its frames keep memory on the device
    del image
    if short is not None:
        note(f"{short}; going on with half the block")
        for half in halves(block.core):
            inside = (slice(None), *half.relative_to(block.core.start).slices)
            _store_block(read, plan, plan.block(block.shard, half), scorer, encode, out[inside], note)


def _compute(
    image: np.ndarray, box: Box, plan: PredictionPlan, block: BlockPlan, scorer: DeviceScorer, encode: "_Encoding", out: np.ndarray
) -> None:
    needed, shape = block.needed, plan.level_shape
    most = min(max(scorer.memory // _PIECES_SHARE // (_PIECE_BYTES * scorer.species), _LEAST_PIECE), _LARGEST_PIECE)
    with device_memory(scorer.device, f"a block of {image.shape} voxels (z, y, x)", _REMEDY), torch.inference_mode():
        lane = _Lane(scorer.device)
        here = lane.bring(image)
        with exact_turn(scorer.device):
            logits = scorer.device_logits(here, box, needed, shape)
        del here
        for piece in _pieces(block.core, most):
            with exact_turn(scorer.device):
                values = encode(interpolated(logits, needed.start, piece, plan.level, shape))
                made = lane.mark()
            lane.take(values, made, out[(slice(None), *piece.relative_to(block.core.start).slices)])


def _pieces(core: Box, most: int) -> Iterator[Box]:
    """Yield slabs of a core of at most `most` voxels, but at least one plane."""
    planes = max(1, most // (core.shape[1] * core.shape[2]))
    grid = BlockGrid(core.shape, (planes, *core.shape[1:]))
    return (part.shifted(core.start) for part in grid.cores())


def interpolated(
    values: Float32[torch.Tensor, "s z y x"], origin: Triple, target: Box, level: int, level_shape: Triple
) -> Float32[torch.Tensor, "s Z Y X"]:
    """Do what `upsample` does, on the device, by the same operations in the same order."""
    if level == 0:
        return values[(slice(None), *target.relative_to(origin).slices)]
    for axis in range(3):
        low, high, weight = (
            torch.from_numpy(part).to(values.device)
            for part in neighbours(target.start[axis], target.stop[axis], level, level_shape[axis], origin[axis])
        )
        below = values.index_select(axis + 1, low)
        values = values.index_select(axis + 1, high)
        values -= below
        values *= weight.reshape([-1 if number == axis else 1 for number in range(3)])
        values += below
    return values


class _Encoding:
    """Turn logits into stored scores, on the device; see `region_scoring.encode_scores`."""

    def __init__(self, dtype: str, *, as_logits: bool) -> None:
        self._dtype, self._as_logits = dtype, as_logits

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        scores = logits if self._as_logits else torch.sigmoid(logits)
        if self._dtype != "int8":
            return scores.to(getattr(torch, self._dtype))
        stored = (scores * SCORE_STEPS).round_().add_(SCORE_ZERO)
        return stored.nan_to_num_(nan=missing_score("int8")).to(torch.int8)


class _Lane:
    """Copies to the device and back on a stream of the thread's own, beside the stream on which all threads compute."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._compute = torch.cuda.current_stream(device) if device.type == "cuda" else None
        self._own = torch.cuda.Stream(device) if device.type == "cuda" else None

    def bring(self, image: np.ndarray) -> torch.Tensor:
        """Copy an array to the device."""
        if self._own is None or self._compute is None:
            return torch.from_numpy(image)
        with torch.cuda.stream(self._own):
            here = torch.from_numpy(image).to(self._device)
        self._own.synchronize()
        here.record_stream(self._compute)  # so that its memory is not reused before the computation has read it
        return here

    def mark(self) -> "torch.cuda.Event | None":
        """Return an event after all work handed to the device so far; None on a processor."""
        return None if self._compute is None else self._compute.record_event()

    def take(self, values: torch.Tensor, made: "torch.cuda.Event | None", out: np.ndarray) -> None:
        """Copy an array from the device into `out`, after the event `made`."""
        if self._own is None or made is None:
            torch.from_numpy(out).copy_(values)
            return
        with torch.cuda.stream(self._own):
            self._own.wait_event(made)
            torch.from_numpy(out).copy_(values)
        self._own.synchronize()
        # the memory of `values` may be reused now: computations start after the copy, which has ended
