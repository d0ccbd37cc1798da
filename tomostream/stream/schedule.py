"""Schedule crops: which worker cuts which crop, from which region, in which order.  Pure planning; no I/O.

Reading a single crop costs many times its own bytes, because it touches several chunks.  So crops that lie together are cut from one
*region*, which is read once:

- If all volumes together fit the buffer, each volume is one region, kept in memory over all epochs.
- Otherwise a grid of blocks is laid over the corners of uniform crops.  A crop belongs to the block that its corner lies in; the region is
  the block, extended by a crop's edge at its far sides.  Of the blocks of which three fit the buffer (two open, one being read), the one
  with the least reading in total is chosen.  Margins are read twice, so blocks that span a short axis win: they have no margin there.
- A labelled crop belongs to its point; the region is everything that crops around the point can hold.  These regions are small, and are
  kept over all epochs if together they take no more than a quarter of the buffer.

Every rank gets `batches` batches; worker w of W makes the batches w, w + W, ...  Batch i holds the labelled crops floor(i b f + 1/2) to
floor((i + 1) b f + 1/2) of its rank (b crops per batch, f the labelled fraction), so every batch has the wanted mixture to within one
crop.

1. Crops are shuffled, then grouped by region; regions come in the random order of their first crop.
2. The sequence is cut into one part per worker of each rank: disjoint, complete, of the exact sizes.  Neighbouring parts share at most
   one region.
3. Within a part, regions open in that order as long as they fit the window; the next crop is drawn uniformly from those of all open
   regions.

Labelled and uniform crops are two such sequences, with a window each.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tomostream.errors import BudgetError
from tomostream.geometry import Box, Triple, triple
from tomostream.stream.plan import Crop, Design
from tomostream.units import format_bytes

_VOXEL_BYTES = 4  # float32
_AT_ONCE = 3  # regions in a buffer: two to draw from, one being read


@dataclass(frozen=True, slots=True)
class Region:
    """A box of a tomogram (given by its index) that is read once, and held while crops are cut from it."""

    tomogram: int
    box: Box

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.box.size * _VOXEL_BYTES


@dataclass(frozen=True, slots=True)
class Layout:
    """The regions that crops are cut from.

    Parameters
    ----------
    design
        The crops' distribution.
    blocks
        Per tomogram: edges of the blocks of corners that uniform crops are grouped by.
    keeps_volumes, keeps_points
        Whether whole volumes, or the surroundings of all labelled points, stay in memory over all epochs.
    point_bytes, block_bytes
        Most bytes that the regions of labelled and of uniform crops may take at any time.
    """

    design: Design
    blocks: tuple[Triple, ...]
    keeps_volumes: bool
    keeps_points: bool
    point_bytes: int
    block_bytes: int

    def keeps(self, is_labelled: bool) -> bool:
        """Return whether the regions of labelled (or uniform) crops stay in memory over all epochs."""
        return self.keeps_volumes or (is_labelled and self.keeps_points)

    def region(self, crop: Crop) -> Region:
        """Return the region that a crop is cut from."""
        shape = self.design.shapes[crop.tomogram]
        if self.keeps_volumes:
            return Region(crop.tomogram, Box.whole(shape))
        if crop.is_labelled:
            return Region(crop.tomogram, self.design.reach(crop.point))
        start = [k // b * b for k, b in zip(crop.start, self.blocks[crop.tomogram], strict=True)]
        stop = [a + b + c - 1 for a, b, c in zip(start, self.blocks[crop.tomogram], self.design.crop, strict=True)]
        return Region(crop.tomogram, Box(triple(start), triple(stop)).clipped(Box.whole(shape)))


def plan_layout(design: Design, chunks: Sequence[Triple], *, buffer_bytes: int) -> Layout:
    """Choose the regions so that those in memory at any time fit the buffer.

    Parameters
    ----------
    design
        The crops' distribution.
    chunks
        Per tomogram: edges of the smallest part of its store that can be read, voxels.
    buffer_bytes
        Memory for voxels, in each process.

    Raises
    ------
    BudgetError
        If not even the smallest regions fit.
    """
    volumes = sum(math.prod(shape) for shape in design.shapes) * _VOXEL_BYTES
    if volumes <= buffer_bytes:
        return Layout(design, design.shapes, True, True, volumes, volumes)
    reaches = [design.reach(i).size * _VOXEL_BYTES for i in range(len(design.point_share))] if design.n_labelled else []
    allowed = buffer_bytes // 4 if design.n_uniform else buffer_bytes
    if reaches and max(reaches) > allowed:
        raise BudgetError(
            f"crops of {design.crop} voxels around one label are cut from {format_bytes(max(reaches))}, but the buffer has {format_bytes(allowed)} for them "
            f"({format_bytes(buffer_bytes)} in all); raise the memory budget or take smaller crops"
        )
    keeps_points = sum(reaches) <= allowed
    point_bytes = sum(reaches) if keeps_points else allowed
    block_bytes = buffer_bytes - point_bytes
    blocks = (
        tuple(_best_block(s, design.crop, c, block_bytes) for s, c in zip(design.shapes, chunks, strict=True))
        if design.n_uniform
        else design.shapes
    )
    return Layout(design, blocks, False, keeps_points, point_bytes, block_bytes)


def _best_block(shape: Triple, crop: Triple, chunk: Triple, buffer_bytes: int) -> Triple:
    """Choose the block edges with the least reading in total whose regions fit the buffer."""
    axes = [_candidates(*edges) for edges in zip(shape, crop, chunk, strict=True)]
    edges, extents, costs = (np.meshgrid(*(axis[i] for axis in axes), indexing="ij") for i in range(3))
    nbytes, cost = np.prod(extents, axis=0, dtype=np.float64) * _VOXEL_BYTES, np.prod(costs, axis=0, dtype=np.float64)
    for limit in (buffer_bytes / _AT_ONCE, buffer_bytes):
        if nbytes.min() <= limit:
            # of equal cost, the smaller one: more regions can be open at once
            best = np.lexsort((nbytes.ravel(), np.where(nbytes <= limit, cost, np.inf).ravel()))[0]
            return triple([int(axis.ravel()[best]) for axis in edges])
    raise BudgetError(
        f"the smallest part of a volume that crops of {crop} voxels are cut from takes {format_bytes(nbytes.min())}, but the buffer has {format_bytes(buffer_bytes)} "
        "for it; raise the memory budget or take smaller crops"
    )


def _candidates(size: int, crop: int, chunk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List block edges along one axis, each with its longest region and the voxels read in total (in whole chunks)."""
    corners = size - crop + 1
    step = chunk * max(1, crop // chunk)
    edges = sorted({min(edge, corners) for edge in (crop, *range(step, corners + step, step))})
    extents, costs = [], []
    for edge in edges:
        starts = np.arange(0, corners, edge)
        stops = np.minimum(starts + edge + crop - 1, size)
        extents.append(int((stops - starts).max()))
        costs.append(int((np.minimum(-(-stops // chunk) * chunk, size) - starts // chunk * chunk).sum()))
    return np.array(edges), np.array(extents), np.array(costs)


def labelled_before(batch_index: int, *, batch: int, labelled_fraction: float) -> int:
    """Return how many labelled crops the batches before this one hold, in one rank."""
    return math.floor(batch_index * batch * labelled_fraction + 0.5)


@dataclass(frozen=True, slots=True)
class Division:
    """Division of an epoch: every rank makes `batches` batches of `batch` crops; its workers take turns."""

    batch: int
    batches: int
    labelled_fraction: float
    world: int
    workers: int

    def labelled_in(self, batch_index: int) -> int:
        """Number of labelled crops of a rank's batch."""
        first, final = (
            labelled_before(i, batch=self.batch, labelled_fraction=self.labelled_fraction) for i in (batch_index, batch_index + 1)
        )
        return final - first

    def batches_of(self, worker: int) -> range:
        """Indices of the batches that a worker makes for its rank."""
        return range(worker, self.batches, self.workers)

    @property
    def totals(self) -> tuple[int, int]:
        """Numbers of labelled and of uniform crops in the epoch, all ranks together."""
        labelled = self.world * sum(self.labelled_in(i) for i in range(self.batches))
        return labelled, self.world * self.batches * self.batch - labelled

    def sizes(self, *, is_labelled: bool) -> list[int]:
        """Number of crops of one kind in each part: the workers of the first rank, then those of the second, ..."""
        labelled = [sum(self.labelled_in(i) for i in self.batches_of(w)) for w in range(self.workers)]
        counts = labelled if is_labelled else [len(self.batches_of(w)) * self.batch - n for w, n in enumerate(labelled)]
        return counts * self.world


def part_of(layout: Layout, crops: Sequence[Crop], sizes: Sequence[int], part: int, *, seed: int, epoch: int) -> tuple[Crop, ...]:
    """Return one part's crops of one kind, in the order in which they are cut.

    Parameters
    ----------
    layout
        The regions.
    crops
        All the epoch's crops of one kind (labelled or uniform).
    sizes
        Numbers of crops of all parts; their sum is the number of crops.
    part
        Index of the part.
    seed, epoch
        Equal ones give equal parts.
    """
    if not crops:
        return ()
    kind = 1 + crops[0].is_labelled
    shuffled = [crops[i] for i in np.random.default_rng([seed, epoch, kind]).permutation(len(crops))]
    first = sum(sizes[:part])
    if layout.keeps(crops[0].is_labelled):
        return tuple(shuffled[first : first + sizes[part]])
    own = list(itertools.chain.from_iterable(_by_region(layout, shuffled).values()))[first : first + sizes[part]]
    return in_drawing_order(layout, own, rng=np.random.default_rng([seed, epoch, kind, part]))


def _by_region(layout: Layout, crops: Iterable[Crop]) -> dict[Region, list[Crop]]:
    grouped: dict[Region, list[Crop]] = {}
    for crop in crops:
        grouped.setdefault(layout.region(crop), []).append(crop)
    return grouped


def in_drawing_order(layout: Layout, crops: Sequence[Crop], *, rng: np.random.Generator) -> tuple[Crop, ...]:
    """Order crops of one kind so that the regions in use at any time fit the buffer, with room for one that is being read."""
    if not crops:
        return ()
    grouped = _by_region(layout, crops)
    capacity = layout.point_bytes if crops[0].is_labelled else layout.block_bytes
    largest = max(region.nbytes for region in grouped)
    window = max(capacity - largest, largest)
    waiting = list(reversed(grouped))
    left: Counter[Region] = Counter()
    pending: list[tuple[Region, Crop]] = []
    held, drawn = 0, []
    while waiting or pending:
        while waiting and (not pending or held + waiting[-1].nbytes <= window):
            region = waiting.pop()
            held += region.nbytes
            left[region] = len(grouped[region])
            pending.extend((region, crop) for crop in grouped[region])
        index = int(rng.integers(len(pending)))
        pending[index], pending[-1] = pending[-1], pending[index]
        region, crop = pending.pop()
        drawn.append(crop)
        left[region] -= 1
        if not left[region]:
            held -= region.nbytes
    return tuple(drawn)
