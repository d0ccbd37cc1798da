"""Which particles do the boxes of slices belong to?  Boxes are traced through z, and each trace is one particle.

1. Slice by slice (`slice_boxes`), the nearest of the open traces and the new boxes are linked, pairs in the order of their distance (ties:
   the older trace, the better box); each trace takes at most one box a slice.  Boxes without trace begin one.
2. A trace ends when it found no box on more than `gap` slices in a row; it counts if it has at least `shortest` boxes.
3. Its centre is the mean of its boxes' centres; its score the mean, or the largest, of theirs.
4. Traces by descending score: one is a pick unless a pick lies within the radius.

Which boxes are worth tracing?  Those above the threshold.  With only a count of picks, the best boxes of the volume: so many as that many particles
have on the slices that they span; a first pass over the volume finds the score of the last of them.

Traces depend on the boxes alone, so the picks don't depend on blocks.  Held are: the candidates of one layer of blocks, open traces, finished ones.

References
----------
Wagner et al. 2019, "SPHIRE-crYOLO is a fast and accurate fully automated particle picker for cryo-EM", Communications Biology 2, 218, and its
extension to tomograms.
"""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from tomostream import defaults
from tomostream.budget import LIBRARIES_BYTES
from tomostream.errors import BudgetError, InputError
from tomostream.geometry import BlockGrid, Box, Triple, triple
from tomostream.picking.blocks import Picks
from tomostream.picking.planning import check_count, plan_blocks
from tomostream.picking.slice_boxes import BOX_BYTES, Boxes, boxes_of_slices
from tomostream.picking.windows import Read, Source, domain_of
from tomostream.progress import Progress
from tomostream.units import format_bytes

TraceScore = Literal["mean", "max"]
_LAYER = 64  # slices of a block: those of a store's chunk
_VOXELS_PER_CANDIDATE = 16  # pixels of a slice for each of its peaks, at least: score maps are smooth
_NO_PROGRESS = Progress()


@dataclass(frozen=True, slots=True)
class Tracing:
    """How boxes become particles; lengths in voxels, which along z are slices.

    Parameters
    ----------
    distance
        Boxes of a slice lie farther apart than this.
    link
        A trace goes on in a box at most this far from its last one, in y and x.
    gap
        Slices that a trace may miss in a row.
    shortest
        Boxes that a trace has at least.
    spanned
        Slices on which a particle is seen: with a count of picks, so many boxes each are traced.
    score
        Of a trace, from its boxes': `mean` or `max`.
    """

    distance: float
    link: float
    gap: int
    shortest: int
    spanned: float
    score: TraceScore

    def __post_init__(self) -> None:
        for name in ("distance", "link", "spanned"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"tracing: {name} must be above zero and finite, found {value}")
        if self.gap < 0 or self.shortest < 1:
            raise InputError(f"tracing: gap must not be negative and shortest at least 1, found {self.gap} and {self.shortest}")

    @classmethod
    def for_radius(
        cls, radius: float, *, distance: float, link: float, gap: float, shortest: float, spanned: float, score: TraceScore
    ) -> "Tracing":
        """Scale lengths that are given in radii of the particle (voxels)."""
        return cls(
            distance=distance * radius,
            link=link * radius,
            gap=round(gap * radius),
            shortest=max(1, round(shortest * radius)),
            spanned=spanned * radius,
            score=score,
        )


def default_tracing(radius: float) -> Tracing:
    """The tracing of particles of `radius` voxels, where nobody says more."""
    return Tracing.for_radius(
        radius,
        distance=defaults.TRACE_DISTANCE,
        link=defaults.TRACE_LINK,
        gap=defaults.TRACE_GAP,
        shortest=defaults.TRACE_SHORTEST,
        spanned=defaults.TRACE_SPANNED,
        score=defaults.TRACE_SCORE,
    )


@dataclass(slots=True)
class Trace:
    """A trace that grows: sums over its boxes, and where the last one is."""

    z: int
    y: int
    x: int
    boxes: int = 0
    sums: tuple[int, int, int] = (0, 0, 0)
    score_sum: float = 0.0
    score_max: float = -math.inf

    def add(self, z: int, y: int, x: int, score: float) -> None:
        """Take one more box."""
        self.z, self.y, self.x = z, y, x
        self.boxes += 1
        self.sums = (self.sums[0] + z, self.sums[1] + y, self.sums[2] + x)
        self.score_sum += score
        self.score_max = max(self.score_max, score)


def traces(slices: Iterator[Boxes], *, link: float, gap: int) -> Iterator[Trace]:
    """Link the boxes of slices, z ascending; traces come as they end.

    Parameters
    ----------
    slices
        Of consecutive z; a slice without boxes may be left out.
    link, gap
        See `Tracing`.
    """
    is_open: list[Trace] = []
    for boxes in slices:
        going_on = [trace for trace in is_open if boxes.z - trace.z <= gap + 1]
        yield from (trace for trace in is_open if boxes.z - trace.z > gap + 1)
        is_open = going_on
        taken = set()
        places, scores = boxes.index_yx.tolist(), boxes.score.tolist()
        for i, j in _links(is_open, boxes, link):
            is_open[i].add(boxes.z, places[j][0], places[j][1], scores[j])
            taken.add(j)
        for j, ((y, x), score) in enumerate(zip(places, scores, strict=True)):
            if j not in taken:
                begun = Trace(boxes.z, y, x)
                begun.add(boxes.z, y, x, score)
                is_open.append(begun)
    yield from is_open


def _links(is_open: list[Trace], boxes: Boxes, link: float) -> Iterator[tuple[int, int]]:
    """Pairs of trace and box, the nearest first; each in one pair only."""
    if not is_open or not len(boxes):
        return
    ends = np.array([(trace.y, trace.x) for trace in is_open], dtype=np.int64)
    near = cKDTree(ends).query_ball_tree(cKDTree(boxes.index_yx), link + 1)  # whether it is near enough is decided in integers
    pairs = np.array([(i, j) for i, found in enumerate(near) for j in found], dtype=np.int64).reshape(-1, 2)
    squared = ((ends[pairs[:, 0]] - boxes.index_yx[pairs[:, 1]]) ** 2).sum(axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], squared))
    used_traces: set[int] = set()
    used_boxes: set[int] = set()
    for i, j in pairs[order[squared[order] <= link * link]].tolist():
        if i not in used_traces and j not in used_boxes:
            used_traces.add(i)
            used_boxes.add(j)
            yield i, j


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
