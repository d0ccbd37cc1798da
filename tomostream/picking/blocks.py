"""How is a volume larger than memory picked?  Block by block; the picks are those of the greedy loop over the whole, whatever the blocks.

1. Plan the blocks and their halo (`planning`); what does not fit the memory is refused before work.
2. For a count without a threshold, look at all blocks once for thresholds to try (`thresholds`).
3. Label each block (`greedy`), in any process or thread, and settle the answers in the blocks' order (`settling`).  One thread reads the next
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
from jaxtyping import Float64, Int64

from tomostream.budget import LIBRARIES_BYTES
from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Box, Triple, triple
from tomostream.picking.greedy import Labels, Points, label_window
from tomostream.picking.mean_pool import MeanPool
from tomostream.picking.merging import Settlement
from tomostream.picking.planning import check_count, plan_blocks
from tomostream.picking.thresholds import NOTHING, Survey, survey, thresholds_to_try
from tomostream.picking.windows import Read, Source, domain_of
from tomostream.progress import Progress

T = TypeVar("T")
R = TypeVar("R")
MapBlocks = Callable[[Callable[[T], R], Iterable[T]], Iterable[R]]

_NO_PROGRESS = Progress()


@dataclass(frozen=True, slots=True)
class Picks:
    """The picks of one volume, best first: voxel indices (z, y, x), int64 (n, 3), and scores, float64 (n,)."""

    index_zyx: Int64[np.ndarray, "n 3"]
    score: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.index_zyx)


def pick_volume(
    read: Read,
    shape: Triple,
    *,
    radius: float,
    threshold: float | None,
    count: int | None,
    memory: int,
    libraries: int = LIBRARIES_BYTES,
    block: Triple | None = None,
    halo: int | None = None,
    smooth: float = 0.0,
    pool: MeanPool | None = None,
    border: float = 0.0,
    box: Box | None = None,
    mask: Read | None = None,
    workers: int = 1,
    map_blocks: MapBlocks[Any, Any] | None = None,
    progress: Progress = _NO_PROGRESS,
) -> Picks:
    """Pick the peaks of a score volume: exactly those of the sequential greedy loop, in order.

    Voxels are visited by descending score (compared in float64; ties: ascending linear index, z slowest); one is picked unless a pick lies
    within `radius`.  NaN and -inf are never picks.

    Parameters
    ----------
    read
        Returns the scores of a box, an array of its shape: booleans, integers, or floats of at most 64 bits.
    shape
        The volume's shape (z, y, x).
    radius
        Least distance between picks, exclusive, in voxels: at this distance a pick still suppresses.
    threshold
        Picks have a score above it.
    count
        Only the best `count` picks; fewer if there are no more.  Of threshold and count at least one is needed.
    memory
        Budget of this process in bytes, libraries included.
    libraries
        What they take of it, bytes.
    block, halo
        Edges of a block's core and its halo, in voxels: at most; smaller ones are taken where the memory is short.  The picks don't depend
        on them.
    smooth
        Radius in voxels of a ball over which the scores are averaged first; below 1 they are not.
    pool
        Only the peaks of the pooled scores are candidates, and their pooled scores are what is compared (DeepETPicker's way).
    border
        Voxels nearer than this many voxels to the first or last of an axis are no candidates.
    box, mask
        Voxels outside the box, or where the mask is false, are no candidates.
    workers
        Threads, each with a block in work.
    map_blocks
        An ordered map that runs a picklable function over blocks, instead of threads (if `read` and `mask` are picklable too).
    progress
        Told of each block that is done.

    Raises
    ------
    InputError
        If a setting is impossible, or the scores are no real numbers.
    BudgetError
        If the smallest block does not fit the memory, or the picks and undecided candidates don't; the message tells the threshold
        with which they would.
    """
    shape = triple(shape)
    _check(radius=radius, threshold=threshold, count=count, smooth=smooth, block=block)
    domain = domain_of(shape, box=box, border=border)
    if domain.is_empty:
        return Picks(np.empty((0, 3), dtype=np.int64), np.empty(0))
    plan = plan_blocks(
        domain.shape,
        block=block,
        halo=halo,
        radius=radius,
        smooth=smooth + (pool.halo if pool is not None else 0),
        memory=memory,
        libraries=libraries,
        workers=workers,
    )
    check_count(count, plan.settling_bytes)
    source = Source(read, shape, domain, mask, smooth, pool)
    grid = BlockGrid(shape, plan.block)  # counted from the volume's corner, as the chunks of a store are
    cores = [grid.core(index).clipped(domain) for index in grid.touching(domain)]
    if map_blocks is None and workers == 1 and len(cores) > 1:
        run: MapBlocks[Any, Any] = functools.partial(_reading_ahead, cores=cores)
    else:
        run = map_blocks or functools.partial(_threaded, workers=workers)
    thresholds = [-math.inf if threshold is None else float(threshold)]
    if count is not None and threshold is None:
        seen = NOTHING
        with progress.track("look for the threshold", len(cores)) as bar:
            for part in run(_SurveyBlock(source, radius, count), cores):
                seen = seen.merged(part, count)
                bar.advance()
        thresholds = thresholds_to_try(seen, count=count)
    for attempt in thresholds:
        settlement = Settlement(shape, domain=domain, radius=radius, count=count, threshold=attempt, memory=plan.settling_bytes)
        label = _LabelBlock(source, radius, plan.halo)
        tasks = _with_threshold(cores, settlement)
        with progress.track("pick", len(cores)) as bar:
            for core, following, labels in zip(cores, [*cores[1:], None], run(label, tasks), strict=True):
                settlement.add(labels.accepted, labels.undecided)
                if following is None or following.start[0] != core.start[0]:
                    settlement.settle(core.stop[0])
                bar.advance()
        found = settlement.picks()
        if count is None or len(found) >= count:
            break
    return Picks(np.stack(np.unravel_index(found.index, shape), axis=1).astype(np.int64), found.score)


def pick_array(
    array: np.ndarray,
    *,
    radius: float,
    threshold: float | None,
    count: int | None,
    memory: int,
    block: Triple | None = None,
    smooth: float = 0.0,
    pool: MeanPool | None = None,
) -> Picks:
    """Pick the peaks of an array in memory; see `pick_volume`.

    Raises
    ------
    InputError
        If the array is not three-dimensional; else see `pick_volume`.
    """
    if array.ndim != 3:
        raise InputError(f"scores must have three axes (z, y, x), found {array.ndim}: shape {array.shape}")
    return pick_volume(
        lambda box: array[box.slices],
        triple(array.shape),
        radius=radius,
        threshold=threshold,
        count=count,
        memory=memory,
        block=block,
        smooth=smooth,
        pool=pool,
    )


def _check(*, radius: float, threshold: float | None, count: int | None, smooth: float, block: Triple | None) -> None:
    if not (math.isfinite(radius) and radius > 0):
        raise InputError(f"radius: {radius:g} voxels must be above zero and finite")
    if not (math.isfinite(smooth) and smooth >= 0):
        raise InputError(f"smooth: {smooth:g} voxels must be finite and not negative")
    if threshold is None and count is None:
        raise InputError("how many picks? give a threshold (all above it), a count (the best so many), or both")
    if threshold is not None and math.isnan(threshold):
        raise InputError("threshold: it must be a number, found nan")
    if count is not None and count < 1:
        raise InputError(f"count: it must be at least 1, found {count}")
    if block is not None and min(block) < 1:
        raise InputError(f"block: its edges must be at least 1 voxel, found {','.join(map(str, block))}")


def _with_threshold(cores: list[Box], settlement: Settlement) -> Iterator[tuple[Box, float]]:
    """Give each block the threshold that holds when its turn comes."""
    for core in cores:
        yield core, settlement.threshold


@dataclass(frozen=True, slots=True)
class _LabelBlock:
    """Label the candidates of one core above a threshold; the indices are linear in the volume."""

    source: Source
    radius: float
    halo: int

    def scores(self, core: Box) -> np.ndarray:
        """Read what a core needs."""
        return self.source.scores(self._window(core))

    def _window(self, core: Box) -> Box:
        return core.expanded(self.halo).clipped(self.source.domain)

    def __call__(self, task: tuple[Box, float], scores: np.ndarray | None = None) -> Labels:
        core, threshold = task
        window, domain, shape = self._window(core), self.source.domain, self.source.shape
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
    """Look at one core for thresholds to try."""

    source: Source
    radius: float
    count: int

    def scores(self, core: Box) -> np.ndarray:
        """Read what a core needs."""
        return self.source.scores(core)

    def __call__(self, core: Box, scores: np.ndarray | None = None) -> Survey:
        return survey(self.scores(core) if scores is None else scores, radius=self.radius, count=self.count)


def _reading_ahead(function: "_LabelBlock | _SurveyBlock", tasks: Iterable[Any], *, cores: list[Box]) -> Iterator[Any]:
    """Run an ordered map over cores; while one is worked on, a thread reads the next."""
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
