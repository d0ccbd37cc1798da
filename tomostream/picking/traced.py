"""Which particles do the slices of a volume show?  Boxes of slices, traced through z, as picks; out of core.

1. Which boxes are worth tracing?  Those above the threshold.  With only a count of picks, the best boxes of the volume: so many as that many
   particles have on the slices that they span; a first pass over the volume finds the score of the last of them.
2. The boxes of slice after slice (`slice_boxes`) are traced (`tracing`).
3. Traces by descending score: one is a pick unless a pick lies within the radius.

Boxes don't depend on blocks, so picks don't.  Held are: the candidates of one layer of blocks, open traces, finished ones.
"""

import heapq
import math
from collections.abc import Iterator

import numpy as np
from scipy.spatial import cKDTree

from tomostream.budget import LIBRARIES_BYTES
from tomostream.errors import BudgetError, InputError
from tomostream.geometry import BlockGrid, Box, Triple, triple
from tomostream.picking.blocks import Picks
from tomostream.picking.planning import check_count, plan_blocks
from tomostream.picking.slice_boxes import BOX_BYTES, boxes_of_slices
from tomostream.picking.tracing import Trace, Tracing, traces
from tomostream.picking.windows import Read, Source, domain_of
from tomostream.progress import Progress
from tomostream.units import format_bytes

_LAYER = 64  # slices of a block: those of a store's chunk
_VOXELS_PER_CANDIDATE = 16  # pixels of a slice for each of its peaks, at least: score maps are smooth
_NO_PROGRESS = Progress()


def trace_volume(
    read: Read,
    shape: Triple,
    *,
    radius: float,
    threshold: float | None,
    count: int | None,
    tracing: Tracing,
    memory: int,
    libraries: int = LIBRARIES_BYTES,
    block: Triple | None = None,
    smooth: float = 0.0,
    border: float = 0.0,
    box: Box | None = None,
    mask: Read | None = None,
    progress: Progress = _NO_PROGRESS,
) -> Picks:
    """Pick a score volume slice by slice, and trace the boxes through z; best first.

    Parameters
    ----------
    read, shape, memory, libraries, block, smooth, border, box, mask, progress
        See `blocks.pick_volume`.
    radius
        Least distance between picks, exclusive, in voxels.
    threshold
        Boxes have a score above it.
    count
        Only the best `count` picks; fewer if there are no more.  Of threshold and count at least one is needed.
    tracing
        How boxes become particles.

    Returns
    -------
    Picks
        The voxels nearest to the traces' centres, and the traces' scores.

    Raises
    ------
    InputError
        If a setting is impossible, or the scores are no real numbers.
    BudgetError
        If the smallest block does not fit the memory, or the boxes and traces don't.
    """
    shape = triple(shape)
    if threshold is None and count is None:
        raise InputError("how many picks? give a threshold (all above it), a count (the best so many), or both")
    if (threshold is not None and math.isnan(threshold)) or (count is not None and count < 1):
        raise InputError(f"a threshold must be a number and a count at least 1, found {threshold} and {count}")
    if not (math.isfinite(radius) and radius > 0):
        raise InputError(f"radius: {radius:g} voxels must be above zero and finite")
    domain = domain_of(shape, box=box, border=border)
    if domain.is_empty:
        return Picks(np.empty((0, 3), dtype=np.int64), np.empty(0))
    asked = _layer(domain.shape, (memory - libraries) // 2) if block is None else block
    plan = plan_blocks(domain.shape, block=asked, halo=1, radius=1.0, smooth=smooth, memory=memory, libraries=libraries, workers=1)
    check_count(count, plan.settling_bytes)
    source = Source(read, shape, domain, mask, smooth)
    blocks = sum(1 for _ in BlockGrid(shape, plan.block).touching(domain))
    floor = -math.inf if threshold is None else float(threshold)
    if threshold is None and count is not None:
        wanted = math.ceil(count * tracing.spanned)
        _check_held(wanted, plan.settling_bytes)
        with progress.track("look for boxes", blocks) as bar:
            best = _Best(wanted)
            for boxes in boxes_of_slices(
                source,
                block=plan.block,
                distance=tracing.distance,
                floor=lambda: best.floor,
                memory=plan.settling_bytes,
                advance=bar.advance,
            ):
                best.add(boxes.score)
        floor = best.floor
    with progress.track("trace boxes", blocks) as bar:
        slices = boxes_of_slices(
            source, block=plan.block, distance=tracing.distance, floor=lambda: floor, memory=plan.settling_bytes, advance=bar.advance
        )
        centres, scores = _finished(traces(slices, link=tracing.link, gap=tracing.gap), tracing, plan.settling_bytes)
    return _distinct(centres, scores, radius=radius, count=count)


def _layer(shape: Triple, memory: int) -> Triple:
    """A block as deep as a store's chunks, or as deep as its candidates allow where slices are very wide."""
    candidates = shape[1] * shape[2] * BOX_BYTES // _VOXELS_PER_CANDIDATE
    return max(1, min(_LAYER, shape[0], memory // max(1, candidates))), shape[1], shape[2]


class _Best:
    """The scores of the best boxes so far."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._scores: list[float] = []  # a heap: the smallest first

    @property
    def floor(self) -> float:
        """A score below all of the best boxes: those that are not above it don't matter."""
        return float(np.nextafter(self._scores[0], -np.inf)) if len(self._scores) == self._wanted else -math.inf

    def add(self, scores: np.ndarray) -> None:
        """Take the boxes of one more slice."""
        for score in scores.tolist():
            if len(self._scores) < self._wanted:
                heapq.heappush(self._scores, score)
            else:
                heapq.heappushpop(self._scores, score)


def _check_held(number: int, memory: int) -> None:
    if number * BOX_BYTES > memory:
        raise BudgetError(
            f"{number} boxes and traces don't fit: {format_bytes(memory)} of memory hold {memory // BOX_BYTES}; "
            "raise the threshold or the memory, or ask for fewer picks"
        )


def _finished(ended: Iterator[Trace], tracing: Tracing, memory: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n, 3) and scores (n,) of the traces that are long enough."""
    rows: list[np.ndarray] = []
    for trace in ended:
        if trace.boxes >= tracing.shortest:
            score = trace.score_max if tracing.score == "max" else trace.score_sum / trace.boxes
            rows.append(np.array([*(total / trace.boxes for total in trace.sums), score]))
            _check_held(2 * len(rows), memory)
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return table[:, :3], table[:, 3]


def _distinct(centres: np.ndarray, scores: np.ndarray, *, radius: float, count: int | None) -> Picks:
    """Greedy over traces: descending score, ties by z, y, x of the centre; within a radius of a pick there is no other."""
    order = np.lexsort((centres[:, 2], centres[:, 1], centres[:, 0], -scores))
    centres, scores = centres[order], scores[order]
    kept: list[int] = []
    if len(centres):
        is_left = np.ones(len(centres), dtype=bool)
        tree = cKDTree(centres)
        for i in range(len(centres)):
            if is_left[i]:
                kept.append(i)
                if len(kept) == count:
                    break
                is_left[tree.query_ball_point(centres[i], radius)] = False
    return Picks(np.floor(centres[kept] + 0.5).astype(np.int64).reshape(-1, 3), scores[kept])
