"""Fetch crops from the store, reading each part of a volume about once.

1. Crops come in their planned order, each with its region (see `schedule`).
2. A region is read before its first crop is due, by one thread that runs ahead as far as the buffer allows; it is dropped after its last
   crop, or stays in memory if the layout keeps it.
3. If the region will be dropped, only the chunks that its crops touch are read.  They are joined into few large boxes, but of a limited
   size, so that the copies made while reading stay small beside the buffer.

The crops and their order don't depend on the speed of reading.

Memory: at most `point_bytes + block_bytes` of the layout (counted once if volumes are kept), and `TRANSIENT_BYTES` per reading thread.
"""

import itertools
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from tomostream.geometry import BlockGrid, Box, Triple, triple
from tomostream.stream.plan import Crop
from tomostream.stream.schedule import Layout, Region

PIECE_BYTES = 16 * 2**20  # float32 voxels read at a time, unless a single chunk is larger
TRANSIENT_BYTES = 4 * PIECE_BYTES  # raw voxels, their float32 copies and masks, while a piece is normalised


@runtime_checkable
class Volume(Protocol):
    """What a `RegionReader` needs of a tomogram."""

    @property
    def shape(self) -> Triple:
        """Edges z y x of the level that is read, voxels."""
        ...

    @property
    def chunk(self) -> Triple:
        """Edges of the smallest part of the store that can be read, voxels."""
        ...

    def read_standardised(self, box: Box, *, out: np.ndarray) -> np.ndarray:
        """Write the normalised voxels of a box, float32, and return `out`."""
        ...


class RegionReader:
    """Read regions and cut crops from them.  It holds the regions that the layout keeps, so it must live as long as the dataset."""

    def __init__(self, volumes: Sequence[Volume], layout: Layout) -> None:
        self._volumes = volumes
        self._layout = layout
        self._kept: dict[Region, np.ndarray] = {}

    def images(self, crops: Sequence[Crop]) -> Generator[Float32[np.ndarray, "z y x"], None, None]:
        """Yield the normalised voxels of each crop, not yet turned, as a view that is valid until the next crop is requested.

        Parameters
        ----------
        crops
            Of one kind (labelled or uniform), in the order of `schedule.part_of`.
        """
        if not crops:
            return
        if self._layout.keeps(crops[0].is_labelled):
            yield from self._images_kept(crops)
        else:
            yield from self._images_once(crops, self._layout.point_bytes if crops[0].is_labelled else self._layout.block_bytes)

    def _images_kept(self, crops: Sequence[Crop]) -> Iterator[np.ndarray]:
        for crop in crops:
            region = self._layout.region(crop)
            if region not in self._kept:
                self._kept[region] = self._read(region, [region.box], np.empty(region.box.shape, dtype=np.float32))
            yield self._cut(self._kept[region], region, crop)

    def _images_once(self, crops: Sequence[Crop], capacity: int) -> Iterator[np.ndarray]:
        regions = [self._layout.region(crop) for crop in crops]
        boxes: dict[Region, list[Box]] = {}
        for region, crop in zip(regions, crops, strict=True):
            boxes.setdefault(region, []).append(self._layout.design.box(crop))
        left = Counter(regions)
        waiting = list(reversed(boxes))
        read: dict[Region, Future[np.ndarray]] = {}
        held = 0
        free: list[np.ndarray] = []  # arrays of dropped regions, for reuse: new memory costs the process more than reading
        pool = ThreadPoolExecutor(1, thread_name_prefix="tomostream-read")
        try:
            for region, crop in zip(regions, crops, strict=True):
                while waiting and (region not in read or held + waiting[-1].nbytes <= capacity):
                    ahead = waiting.pop()
                    held += ahead.nbytes
                    read[ahead] = pool.submit(self._read, ahead, boxes[ahead], _taken(free, ahead.box.shape))
                yield self._cut(read[region].result(), region, crop)
                left[region] -= 1
                if not left[region]:
                    held -= region.nbytes
                    free.append(read.pop(region).result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, region: Region, boxes: Sequence[Box], array: np.ndarray) -> np.ndarray:
        """Read the chunks of a region that `boxes` touch into an array; its other voxels stay undefined."""
        volume = self._volumes[region.tomogram]
        for piece in pieces_to_read(boxes, shape=volume.shape, chunk=volume.chunk):
            part = piece.clipped(region.box)
            volume.read_standardised(part, out=array[part.relative_to(region.box.start).slices])
        return array

    def _cut(self, array: np.ndarray, region: Region, crop: Crop) -> np.ndarray:
        view: np.ndarray = array[self._layout.design.box(crop).relative_to(region.box.start).slices]
        return view


def _taken(free: list[np.ndarray], shape: Triple) -> np.ndarray:
    """Return a free array of exactly this size, or a new one after dropping the free ones, so that all memory held is counted."""
    for number, array in enumerate(free):
        if array.size == shape[0] * shape[1] * shape[2]:
            return free.pop(number).reshape(shape)
    free.clear()
    return np.empty(shape, dtype=np.float32)  # pages that no piece touches take no memory


def pieces_to_read(boxes: Iterable[Box], *, shape: Triple, chunk: Triple) -> list[Box]:
    """Return disjoint boxes of whole chunks that cover exactly the chunks that `boxes` touch.

    Parameters
    ----------
    boxes
        In voxels.
    shape, chunk
        Of the volume and of its chunks, voxels.

    Returns
    -------
    list
        Boxes of at most `PIECE_BYTES` of float32, or of one chunk if that is larger.
    """
    grid = BlockGrid(shape, chunk)
    merged = [Box(index, triple([i + 1 for i in index])) for index in sorted({index for box in boxes for index in grid.touching(box)})]
    for axis in (2, 1, 0):
        merged = _merged_along(axis, merged)
    most = max(1, PIECE_BYTES // 4 // (chunk[0] * chunk[1] * chunk[2]))
    return [_in_voxels(piece, grid) for box in merged for piece in _halved(box, most)]


def _merged_along(axis: int, boxes: Sequence[Box]) -> list[Box]:
    """Join boxes that touch along an axis and have the same extent along the others."""

    def others(box: Box) -> tuple[int, ...]:
        return tuple(v for i in range(3) if i != axis for v in (box.start[i], box.stop[i]))

    merged: list[Box] = []
    for _, group in itertools.groupby(sorted(boxes, key=lambda b: (others(b), b.start[axis])), key=others):
        row: list[Box] = []
        for box in group:
            if row and row[-1].stop[axis] == box.start[axis]:
                row[-1] = Box(row[-1].start, box.stop)
            else:
                row.append(box)
        merged += row
    return merged


def _halved(box: Box, most: int) -> list[Box]:
    """Halve a box of chunks along its longest axis until each part has at most `most` chunks."""
    if box.size <= most:
        return [box]
    axis = box.shape.index(max(box.shape))
    middle = (box.start[axis] + box.stop[axis]) // 2
    left_stop = triple([middle if i == axis else v for i, v in enumerate(box.stop)])
    right_start = triple([middle if i == axis else v for i, v in enumerate(box.start)])
    return _halved(Box(box.start, left_stop), most) + _halved(Box(right_start, box.stop), most)


def _in_voxels(box: Box, grid: BlockGrid) -> Box:
    """Convert a box of chunk indices to voxels."""
    return Box(grid.core(box.start).start, grid.core(triple([i - 1 for i in box.stop])).stop)
