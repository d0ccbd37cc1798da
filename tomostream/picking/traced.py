"""Which particles do the slices of a volume show?  Boxes on slices are traced through z and become picks; out of core.

1. Which boxes are worth tracing?  Those above the threshold.  With only a count of picks, the best boxes of the volume: as many as that many
   particles have on the slices that they span; a first pass over the volume finds the score of the last of them.
2. The boxes of slice after slice (`slice_boxes`) are traced (`tracing`).
3. Traces by descending score: one is a pick unless a pick lies within the radius.

Boxes don't depend on blocks, so picks don't.  Held are: the candidates of one layer of blocks, open traces, finished ones.
"""

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from tomostream.errors import BudgetError
from tomostream.geometry import BlockGrid, Triple
from tomostream.picking.how_many import needed
from tomostream.picking.planning import check_count, plan_blocks
from tomostream.picking.protocol import Execution, PickRequest, Picks, Source
from tomostream.picking.slice_boxes import BOX_BYTES, Boxes, boxes_of_slices
from tomostream.picking.tracing import Trace, Tracing, default_tracing, traces
from tomostream.picking.windows import ScoreWindows
from tomostream.progress import Progress
from tomostream.units import format_bytes

_LAYER = 64  # slices of a block: those of a store's chunk
_VOXELS_PER_CANDIDATE = 16  # pixels of a slice for each of its peaks, at least: score maps are smooth
_NO_PROGRESS = Progress()


@dataclass(frozen=True, slots=True)
class TracePicker:
    """The picker `trace`: boxes of slices, traced through z.

    Parameters
    ----------
    tracing
        How boxes become particles; None: the default for the radius.
    """

    tracing: Tracing | None = None
    name: str = "trace"
    needs_count: bool = True

    def pick(self, source: Source, request: PickRequest, execution: Execution, progress: Progress = _NO_PROGRESS) -> Picks:
        """Pick a score volume slice by slice, and trace the boxes through z; best first.

        Boxes score above the threshold.  One block is processed at a time.

        Returns
        -------
        Picks
            The voxels nearest to the traces' centres, and the traces' scores.

        Raises
        ------
        InputError
            If the request can't be met, or the scores are no real numbers.
        BudgetError
            If the smallest block does not fit the memory, or the boxes and traces don't.
        """
        wanted = needed(request.how_many)
        tracing = default_tracing(request.radius) if self.tracing is None else self.tracing
        windows = ScoreWindows.of(source, request)
        if windows.domain.is_empty:
            return Picks.none()
        slices = _Slices.planned(windows, tracing.distance, execution)
        check_count(wanted.most, slices.memory)
        floor = -math.inf if wanted.above is None else float(wanted.above)
        if wanted.above is None and wanted.most is not None:
            floor = slices.floor_of_best(math.ceil(wanted.most * tracing.spanned), progress)
        with progress.track("trace boxes", slices.blocks) as bar:
            ended = traces(slices.boxes(lambda: floor, bar.advance), link=tracing.link, gap=tracing.gap)
            centres, scores = _finished(ended, tracing, slices.memory)
        return _distinct(centres, scores, radius=request.radius, count=wanted.most)


@dataclass(frozen=True, slots=True)
class _Slices:
    """The slices of a volume, read in blocks; `memory` are the bytes that boxes and traces may take."""

    windows: ScoreWindows
    block: Triple
    distance: float
    memory: int

    @classmethod
    def planned(cls, windows: ScoreWindows, distance: float, execution: Execution) -> "_Slices":
        """Plan the blocks; refuse what does not fit into memory."""
        memory, libraries = execution.memory, execution.libraries
        shape = windows.domain.shape
        asked = _layer(shape, (memory - libraries) // 2) if execution.block is None else execution.block
        plan = plan_blocks(shape, block=asked, halo=1, radius=1.0, smooth=windows.reach, memory=memory, libraries=libraries, workers=1)
        return cls(windows, plan.block, distance, plan.settling_bytes)

    @property
    def blocks(self) -> int:
        """How many blocks are read."""
        return sum(1 for _ in BlockGrid(self.windows.shape, self.block).touching(self.windows.domain))

    def boxes(self, floor: Callable[[], float], advance: Callable[[], object]) -> Iterator[Boxes]:
        """The boxes of slice after slice; see `boxes_of_slices`."""
        return boxes_of_slices(self.windows, block=self.block, distance=self.distance, floor=floor, memory=self.memory, advance=advance)

    def floor_of_best(self, number: int, progress: Progress) -> float:
        """Return the score above which the wanted number of best boxes lies."""
        _check_held(number, self.memory)
        best = _Best(number)
        with progress.track("find boxes", self.blocks) as bar:
            for boxes in self.boxes(lambda: best.floor, bar.advance):
                best.add(boxes.score)
        return best.floor


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
            f"{number} boxes and traces don't fit: {format_bytes(memory)} of memory can hold {memory // BOX_BYTES}; "
            "raise the threshold or the memory, or give a smaller count"
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


PICKER = TracePicker()
