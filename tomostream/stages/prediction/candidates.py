"""`predict.keep: candidates`: of a tomogram's scores only those stay that a later `pick` needs; the design is docs/design/006-candidates.md.

1. While shards are scored, each keeps its best twelfth or so (`thinned`), in a store of work beside the result; the score below which
   nothing is kept is noted in the ledger.
2. When all are there, the voxels that may be picks for some radius from the species' to twice that are found block by block, each seen with
   a halo (`picking.radius_sets`); and the best voxels of all, for any other radius (`reduced`).  Narrow ranges of radii need fewer
   voxels, and so reach deeper for the same bytes.
3. They are written as a score map whose other voxels are missing, compressed: at most a hundredth of a map's bytes.

Step 2 begins anew after a kill; what it writes depends on the scores alone.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.candidate_bounds import CandidateBounds, RadiusRange
from tomostream.errors import BudgetError, InputError
from tomostream.fingerprint import Fingerprint
from tomostream.geometry import Box, Triple, halves
from tomostream.picking.radius_sets import NEVER, Radii, least_radii
from tomostream.remote.places import Place, place
from tomostream.score_map import ScoreMap, open_score_map
from tomostream.store.omezarr import StoreSpec, StoreWriter
from tomostream.units import format_bytes

WORK_FOLDER = ".in-work"  # beside the maps of candidates: what is not reduced yet
WORK_SHARE = 0.08  # of the voxels, kept while a tomogram is in work
MOST_SHARE = 0.01  # of a whole map's bytes: the promise
# largest radius of each range, of the species', and its share of a whole map's bytes; then that of the best voxels, for any radius
RANGES = ((1.0, 0.002), (1.25, 0.0015), (2.0, 0.002))
_SHARE_OF_ANY = 0.0025
CODEC = "zstd"  # what is missing takes no space then
_CANDIDATE_BYTES, _NEIGHBOUR_BYTES = 6, 2  # besides its score, of a voxel that stands alone, and of one among others, compressed
_SAMPLE_VOX = 2**21  # looked at for a shard's floor
_HELD_BYTES = 12  # of a window's voxel while it is searched, a twelfth of them candidates
_SLAB_VOX = 2**22  # read at a time
_BLOCK_VOX = 2**25  # of a block, at most
_SMALLEST_VOX = 32  # edge of a block that is not cut again


def work_place(target: Place) -> Place:
    """Where the scores of a tomogram are while it is in work."""
    return target.parent / WORK_FOLDER / target.name


def thinned(stored: np.ndarray, missing: float) -> float | None:
    """Make all but the best scores of a shard missing, in place; returns the stored value that the rest lies above, None where all stay.

    Parameters
    ----------
    stored
        Scores as they are stored.
    missing
        What stands for a missing one.
    """
    flat = stored.reshape(-1)
    sample = flat[:: max(1, flat.size // _SAMPLE_VOX)]
    known = sample[sample != missing] if stored.dtype.kind == "i" else sample[np.isfinite(sample)]
    most = math.ceil(WORK_SHARE * len(sample))
    if len(known) <= most:
        return None
    floor = np.partition(known, -most - 1)[-most - 1]
    for plane in stored:
        plane[~(plane > floor)] = missing
    return float(floor)


@dataclass(frozen=True, slots=True)
class _Voxels:
    """Voxels of a volume, linear indices, with their scores, decoded."""

    index: np.ndarray
    score: np.ndarray

    @classmethod
    def joined(cls, parts: list[_Voxels]) -> _Voxels:
        """All of the parts."""
        return cls(
            np.concatenate([np.empty(0, dtype=np.int64), *(part.index for part in parts)]),
            np.concatenate([np.empty(0, dtype=np.float64), *(part.score for part in parts)]),
        )

    def select(self, keep: np.ndarray) -> _Voxels:
        """Those that a boolean mask chooses."""
        return _Voxels(self.index[keep], self.score[keep])


class _Selection:
    """The best of the voxels that were added, at most `most`: all that are above `floor`, which rises."""

    def __init__(self, most: int, floor: float) -> None:
        self._most, self.floor = most, floor
        self.voxels = _Voxels.joined([])

    def add(self, found: _Voxels) -> None:
        """Take more."""
        joined = _Voxels.joined([self.voxels, found.select(found.score > self.floor)])
        if len(joined.score) > self._most:
            self.floor = max(self.floor, float(np.partition(joined.score, -self._most - 1)[-self._most - 1]))
            joined = joined.select(joined.score > self.floor)
        self.voxels = joined


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """The making of one map of candidates from the scores in work.

    Parameters
    ----------
    work
        The finished store of work.
    target, spec, fingerprint, overwrite
        Of the map of candidates; see `StoreWriter.create_or_resume`.
    radius
        The species', voxels.
    memory
        Budget of the process, bytes.
    """

    work: str
    target: str
    spec: StoreSpec
    radius: float
    fingerprint: Fingerprint
    overwrite: bool
    memory: int


@dataclass(frozen=True, slots=True)
class ReduceTask:
    """The reductions of a tomogram's scores, one per species."""

    name: str
    reductions: tuple[Reduction, ...]


def reduce_tomogram(task: ReduceTask) -> None:
    """Reduce the scores of all species; see `reduced`."""
    for reduction in task.reductions:
        reduced(reduction)


def reduced(given: Reduction) -> None:
    """Make the map of candidates, and remove the scores in work.

    Raises
    ------
    BudgetError
        If the smallest block does not fit.
    InputError
        If most scores are infinite.
    """
    spec, work = given.spec, place(given.work)
    source = open_score_map(work)
    recorded = source.tomogram.attributes.get("floor")
    floor = -math.inf if recorded is None else float(source.attributes.decode(np.full((1, 1, 1), recorded, dtype=spec.dtype)).item())
    bounds, index = _chosen(source, given.radius, floor, np.dtype(spec.dtype).itemsize, given.memory)
    attributes = {**spec.attributes, "candidates": bounds.model_dump()}
    with StoreWriter.create_or_resume(
        place(given.target), replace(spec, attributes=attributes), fingerprint=given.fingerprint, overwrite=given.overwrite
    ) as writer:
        for shard in writer.pending():
            writer.write(shard, _sparse(source, writer.shards.core(shard), index))
            writer.mark_done(shard)
        writer.finish()
    remove_store(work)


def _chosen(source: ScoreMap, radius: float, floor: float, itemsize: int, memory: int) -> tuple[CandidateBounds, np.ndarray]:
    """The linear indices of the voxels that are kept, ascending, and what can be picked from them."""
    radii = Radii(radius, RANGES[-1][0] * radius)
    whole = math.prod(source.shape) * itemsize
    every = _Selection(math.ceil(_SHARE_OF_ANY * whole / (itemsize + _NEIGHBOUR_BYTES)), floor)
    ranges = [
        (Radii(radius, widest * radius), _Selection(math.ceil(share * whole / (itemsize + _CANDIDATE_BYTES)), floor))
        for widest, share in RANGES
    ]
    for core in _blocks(source, radii, memory):
        here, least = _searched(source, core, radii, floor)
        every.add(here)
        for range_, selection in ranges:
            selection.add(here.select((least != NEVER) & (least <= range_.last)))
    if max(every.floor, *(selection.floor for _, selection in ranges)) == math.inf:
        raise InputError(f"{source.name}: more voxels have an infinite score than candidates may hold; predict with `keep: scores`")
    bounds = CandidateBounds(
        least=radius,
        ranges=tuple(
            # what is whole for any radius is whole for these
            RadiusRange(most=range_.most, floor=_number(min(selection.floor, every.floor)))
            for range_, selection in ranges
        ),
        floor=_number(every.floor),
    )
    return bounds, np.unique(np.concatenate([every.voxels.index, *(selection.voxels.index for _, selection in ranges)]))


def remove_store(path: Place) -> None:
    """Remove a store of work, if it exists."""
    if isinstance(path, Path):
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # after the last one
    else:
        path.remove_tree()


def _number(floor: float) -> float | None:
    return floor if math.isfinite(floor) else None


def _blocks(source: ScoreMap, radii: Radii, memory: int) -> Iterator[Box]:
    """Cores that are searched one after the other: the volume, halved until a core is small and its window fits the memory.

    They are as large as they may be: near a face where the volume goes on little is certain, so that more is kept, and it takes longer.
    """
    spare = memory - LIBRARIES_BYTES - TORCH_BYTES - 40 * _SLAB_VOX
    waiting = [Box.whole(source.shape)]
    while waiting:
        core = waiting.pop()
        window = _window(core, radii, source.shape)
        fits = _HELD_BYTES * window.size <= spare
        if fits and core.size <= _BLOCK_VOX:
            yield core
        elif fits:
            waiting += halves(core)
        elif max(core.shape) <= _SMALLEST_VOX:
            needed = memory - spare + _HELD_BYTES * window.size
            raise BudgetError(
                f"keeping the candidates of {source.name} needs {format_bytes(needed)} but the memory budget is {format_bytes(memory)}; raise --memory, or use `keep: scores`"
            )
        else:
            waiting += halves(core)


def _window(core: Box, radii: Radii, shape: Triple) -> Box:
    return core.expanded(2 * math.ceil(radii.most)).clipped(Box.whole(shape))


def _searched(source: ScoreMap, core: Box, radii: Radii, floor: float) -> tuple[_Voxels, np.ndarray]:
    """The voxels of a core above the floor, and the least radius at which each may be a pick (`least_radii`)."""
    window = _window(core, radii, source.shape)
    place, score = _above(source, window, floor)
    order = np.argsort(-score, kind="stable")
    place, score = place[order], score[order]
    least = least_radii(
        place,
        radii,
        window=window.shape,
        open_low=tuple(start > 0 for start in window.start),
        open_high=tuple(stop < n for stop, n in zip(window.stop, source.shape, strict=True)),
    )
    place += np.array(window.start)
    inside = ((place >= core.start) & (place < core.stop)).all(axis=1)
    index = np.ravel_multi_index(tuple(place[inside].T), source.shape)
    return _Voxels(index, score[inside]), least[inside]


def _above(source: ScoreMap, window: Box, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Places in a window (n, 3) of the scores above a floor, in the order of linear indices, and these, float64."""
    places, scores = [np.empty((0, 3), dtype=np.int64)], [np.empty(0)]
    depth = max(1, _SLAB_VOX // max(1, math.prod(window.shape[1:])))
    for first in range(window.start[0], window.stop[0], depth):
        slab = replace(window, start=(first, *window.start[1:]), stop=(min(first + depth, window.stop[0]), *window.stop[1:]))
        found = source.read(slab)
        is_above = found > floor
        places.append(np.argwhere(is_above) + np.array([first - window.start[0], 0, 0]))
        scores.append(found[is_above].astype(np.float64))
    return np.concatenate(places), np.concatenate(scores)


def _sparse(source: ScoreMap, core: Box, index: np.ndarray) -> np.ndarray:
    """A shard as it is stored: the scores of the chosen voxels, all others missing."""
    stored = np.array(source.tomogram.read(core))
    plane = source.shape[1] * source.shape[2]
    first, last = np.searchsorted(index, (core.start[0] * plane, core.stop[0] * plane))
    place = np.stack(np.unravel_index(index[first:last], source.shape), axis=1)
    inside = ((place >= core.start) & (place < core.stop)).all(axis=1)
    z, y, x = (place[inside] - core.start).T
    values = stored[z, y, x]
    stored[...] = source.missing
    stored[z, y, x] = values
    return stored
