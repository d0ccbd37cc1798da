"""How are particles picked in a volume larger than memory?  Block by block; for any blocks the picks equal those of the greedy loop over the whole volume.

1. Plan the blocks and their halo (`planning`); refuse, before any work, what does not fit into memory.
2. For a count without a threshold, read all blocks once to find thresholds to try (`thresholds`).
3. Label each block (`greedy`), in any process or thread, and merge the answers in the order of the blocks (`merging`).  One thread reads the next
   block while another labels.
4. With a count, take the next lower threshold until there are enough picks.

           window read by a block                    held until the end: picks; until their layer is done: undecided candidates
       +----------------------+
       | halo: the radius     |
       |    +------------+    |
       |    |    core    |    |
       |    +------------+    |
       +----------------------+

References
----------
The greedy loop: Huang, Zhou, Bartesaghi (2022), "Accurate detection of proteins in cryo-electron tomograms from sparse labels".
"""

import functools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from tomostream.geometry import BlockGrid, Box, Triple
from tomostream.picking.floors import above_the_floor, check_enough
from tomostream.picking.greedy import Labels, Points, label_window
from tomostream.picking.how_many import HowMany, needed
from tomostream.picking.mean_pool import MeanPool
from tomostream.picking.merging import Settlement
from tomostream.picking.planning import Plan, check_count, plan_blocks
from tomostream.picking.protocol import Execution, MapBlocks, PickRequest, Picks, Source
from tomostream.picking.thresholds import NOTHING, Survey, survey, thresholds_to_try
from tomostream.picking.windows import ScoreWindows
from tomostream.progress import Progress

T = TypeVar("T")
R = TypeVar("R")

_NO_PROGRESS = Progress()


def pick_volume(
    source: Source, request: PickRequest, execution: Execution, *, pool: MeanPool | None = None, progress: Progress = _NO_PROGRESS
) -> Picks:
    """Pick the peaks of a score volume: exactly those of the sequential greedy loop, in order.

    Voxels are visited by descending score (compared in float64; ties: ascending linear index, z slowest); one is picked unless a pick lies
    within the radius.  NaN and -inf are never picks.

    Parameters
    ----------
    source, request, execution
        See `protocol`.
    pool
        Only the peaks of the pooled scores are candidates, and their pooled scores are compared (as in DeepETPicker).
    progress
        Notified of each finished block.

    Raises
    ------
    InputError
        If the request is impossible or reaches below the source's floor, or the scores are not real numbers.
    BudgetError
        If the smallest block, or the picks and undecided candidates, don't fit into memory; the message gives the threshold
        with which they would.
    """
    request = request.within(source.shape)
    asked = needed(request.how_many)
    wanted = above_the_floor(asked, source)
    windows = ScoreWindows.of(source, request, pool)
    if windows.domain.is_empty:
        return Picks.none()
    blocks = _Blocks.planned(windows, request, execution, wanted.most)
    if wanted.most is None or wanted.above is not None:
        thresholds = [-math.inf if wanted.above is None else float(wanted.above)]
    else:
        thresholds = blocks.thresholds(wanted.most, progress)
    found = Points.joined([])
    for threshold in thresholds:
        found = blocks.settled(threshold, wanted.most, progress)
        if wanted.most is None or len(found) >= wanted.most:
            break
    check_enough(len(found), asked, source)
    return Picks(np.stack(np.unravel_index(found.index, windows.shape), axis=1).astype(np.int64), found.score)


def pick_array(array: np.ndarray, *, radius: float, how_many: HowMany, memory: int) -> Picks:
    """Pick the peaks of an array in memory; see `pick_volume`.

    Raises
    ------
    InputError
        If the array is not three-dimensional; else see `pick_volume`.
    """
    return pick_volume(Source.of(array), PickRequest(radius=radius, how_many=how_many), Execution(memory=memory))


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The blocks of a volume, and how they are run."""

    windows: ScoreWindows
    radius: float
    plan: Plan
    cores: list[Box]
    run: MapBlocks

    @classmethod
    def planned(cls, windows: ScoreWindows, request: PickRequest, execution: Execution, most: int | None) -> "_Blocks":
        """Plan the blocks; refuse what does not fit into memory."""
        plan = plan_blocks(
            windows.domain.shape,
            block=execution.block,
            halo=execution.halo,
            radius=request.radius,
            smooth=windows.reach,
            memory=execution.memory,
            libraries=execution.libraries,
            workers=execution.workers,
        )
        check_count(most, plan.settling_bytes)
        grid = BlockGrid(windows.shape, plan.block)  # counted from the volume's corner, as the chunks of a store are
        cores = [grid.core(index).clipped(windows.domain) for index in grid.touching(windows.domain)]
        if execution.map_blocks is None and execution.workers == 1 and len(cores) > 1:
            run: MapBlocks = functools.partial(_reading_ahead, cores=cores)
        else:
            run = execution.map_blocks or functools.partial(_threaded, workers=execution.workers)
        return cls(windows, request.radius, plan, cores, run)

    def thresholds(self, count: int, progress: Progress) -> list[float]:
        """Look at all blocks once for the thresholds to try for a count."""
        seen = NOTHING
        with progress.track("find the threshold", len(self.cores)) as bar:
            for part in self.run(_SurveyBlock(self.windows, self.radius, count), self.cores):
                seen = seen.merged(part, count)
                bar.advance()
        return thresholds_to_try(seen, count=count)

    def settled(self, threshold: float, most: int | None, progress: Progress) -> Points:
        """Label all blocks, and merge their answers in order."""
        settlement = Settlement(
            self.windows.shape,
            domain=self.windows.domain,
            radius=self.radius,
            count=most,
            threshold=threshold,
            memory=self.plan.settling_bytes,
        )
        label = _LabelBlock(self.windows, self.radius, self.plan.halo)
        tasks = _with_threshold(self.cores, settlement)
        with progress.track("pick", len(self.cores)) as bar:
            for core, following, labels in zip(self.cores, [*self.cores[1:], None], self.run(label, tasks), strict=True):
                settlement.add(labels.accepted, labels.undecided)
                if following is None or following.start[0] != core.start[0]:
                    settlement.settle(core.stop[0])
                bar.advance()
        return settlement.picks()


def _with_threshold(cores: list[Box], settlement: Settlement) -> Iterator[tuple[Box, float]]:
    """Give each block the threshold that applies when its turn comes."""
    for core in cores:
        yield core, settlement.threshold


@dataclass(frozen=True, slots=True)
class _LabelBlock:
    """Label the candidates of one core above a threshold; the indices are linear in the volume."""

    windows: ScoreWindows
    radius: float
    halo: int

    def scores(self, core: Box) -> np.ndarray:
        """Read what a core needs."""
        return self.windows.scores(self._window(core))

    def _window(self, core: Box) -> Box:
        return core.expanded(self.halo).clipped(self.windows.domain)

    def __call__(self, task: tuple[Box, float], scores: np.ndarray | None = None) -> Labels:
        core, threshold = task
        window, domain, shape = self._window(core), self.windows.domain, self.windows.shape
        labels = label_window(
            self.scores(core) if scores is None else scores,
            threshold=threshold,
            radius=self.radius,
            core=core.relative_to(window.start),
            open_low=tuple(a > b for a, b in zip(window.start, domain.start, strict=True)),
            open_high=tuple(a < b for a, b in zip(window.stop, domain.stop, strict=True)),
        )
        return Labels(_in_volume(labels.accepted, window, shape), _in_volume(labels.undecided, window, shape))


def _in_volume(points: Points, window: Box, shape: Triple) -> Points:
    place = np.unravel_index(points.index, window.shape)
    z, y, x = (axis + start for axis, start in zip(place, window.start, strict=True))
    return Points(((z * shape[1] + y) * shape[2] + x).astype(np.int64), points.score)


@dataclass(frozen=True, slots=True)
class _SurveyBlock:
    """Search one core for thresholds to try."""

    windows: ScoreWindows
    radius: float
    count: int

    def scores(self, core: Box) -> np.ndarray:
        """Read what a core needs."""
        return self.windows.scores(core)

    def __call__(self, core: Box, scores: np.ndarray | None = None) -> Survey:
        return survey(self.scores(core) if scores is None else scores, radius=self.radius, count=self.count)


def _reading_ahead(function: "_LabelBlock | _SurveyBlock", tasks: Iterable[Any], *, cores: list[Box]) -> Iterator[Any]:
    """Run an ordered map over cores; while one is processed, a thread reads the next."""
    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(function.scores, cores[0])]
        for following, task in zip([*cores[1:], None], tasks, strict=True):
            scores = ahead.pop().result()
            if following is not None:
                ahead.append(reader.submit(function.scores, following))
            yield function(task, scores)
            del scores


def _threaded(function: Callable[[T], R], tasks: Iterable[T], *, workers: int) -> Iterator[R]:
    """Run an ordered map in threads, with no more results waiting than there are threads."""
    if workers == 1:
        yield from map(function, tasks)
        return
    with ThreadPoolExecutor(workers) as threads:
        flying: deque[Future[R]] = deque()
        for task in tasks:
            if len(flying) == workers:
                yield flying.popleft().result()
            flying.append(threads.submit(function, task))
        while flying:
            yield flying.popleft().result()
