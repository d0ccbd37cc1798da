"""What does the page see of a volume?  Grey values of a slab of planes, cut along z, y or x, at one level of the pyramid.

1. A *cut* is a slab of planes of one level along one axis, and a rectangle of it.  Its picture is the mean over the planes; smoothed, if
   asked for, by a Gaussian in the plane, with what lies around the rectangle, so that pictures fit together without seams.
2. Of an uncompressed store of ours only the planes are read.  Elsewhere a chunk comes whole, so the *brick* of chunks around the slab is
   kept for the next slices, if it is small enough.
3. Grey: in standard deviations of such pictures (`grey_pictures`), measured once in the volume's middle.  Score maps: 0 to 1.

Memory: at most `PIECE_BYTES` of raw voxels at once and thread, besides the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tomostream.errors import BudgetError, InputError
from tomostream.geometry import Box, Triple, triple
from tomostream.grey_pictures import SPREAD, grey_values, robust_scale, slab_mean, smoothed, smoothing_halo
from tomostream.score_map import as_score_map
from tomostream.tomogram import Tomogram
from tomostream.units import format_bytes
from tomostream.view.cache import ArrayCache

Axis = Literal["z", "y", "x"]
AXES: dict[str, int] = {"z": 0, "y": 1, "x": 2}
# the axes of a picture, rows then columns: x-y beside it z-y, below it x-z
_ROWS_COLUMNS: dict[str, tuple[int, int]] = {"z": (1, 2), "y": (0, 2), "x": (1, 0)}

TILE = 512  # edge of a tile, pixels
MOST_PLANES = 256  # of a slab
MOST_SIGMA = 16.0  # of the smoothing, pixels
PIECE_BYTES = 24_000_000  # of raw voxels that a thread reads at once
READERS = 3  # threads that read
LIBRARIES_BYTES = 260_000_000  # Python with numpy, zarr, scipy, pandas, the server: measured
_READER_BYTES = PIECE_BYTES * 4 + 16_000_000  # a piece, what zarr-python holds beside it, the picture in float32 and its smoothed copy
_LEAST_CACHE_BYTES = 32_000_000


@dataclass(frozen=True, slots=True)
class Cut:
    """A rectangle of a slab of planes.

    Parameters
    ----------
    axis
        Across which it is cut.
    level
        Of the pyramid.
    planes
        First and last + 1 plane, voxels of the level.
    rows, columns
        The same of the rectangle.
    sigma
        Of the smoothing, voxels of the level; 0: none.
    """

    axis: Axis
    level: int
    planes: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]
    sigma: float = 0.0


def cache_bytes(memory: int) -> int:
    """How much of a budget the cache may take.

    Raises
    ------
    BudgetError
        If the budget is too small for the server.
    """
    needed = LIBRARIES_BYTES + READERS * _READER_BYTES
    if memory < needed + _LEAST_CACHE_BYTES:
        raise BudgetError(
            f"view needs {format_bytes(needed + _LEAST_CACHE_BYTES)} but the memory budget is {format_bytes(memory)}; raise --memory"
        )
    return memory - needed


def check_cut(cut: Cut, tomogram: Tomogram) -> None:
    """Refuse a cut that is not part of the volume.

    Raises
    ------
    InputError
        With what is allowed.
    """
    if not 0 <= cut.level < tomogram.level_count:
        raise InputError(f"level {cut.level}: {tomogram.name} stores the levels 0 to {tomogram.level_count - 1}")
    shape = tomogram.at_level(cut.level).shape
    rows, columns = _ROWS_COLUMNS[cut.axis]
    for what, (first, last), size, most in (
        ("planes", cut.planes, shape[AXES[cut.axis]], MOST_PLANES),
        ("rows", cut.rows, shape[rows], TILE),
        ("columns", cut.columns, shape[columns], TILE),
    ):
        if not (0 <= first < last <= size and last - first <= most):
            raise InputError(f"{what} {first}:{last} of {tomogram.name}, level {cut.level}: there are {size}, at most {most} at once")
    if not 0 <= cut.sigma <= MOST_SIGMA:
        raise InputError(f"smoothing must be 0 to {MOST_SIGMA:g} voxels, found {cut.sigma:g}")


class Pictures:
    """Makes pictures of volumes, and keeps the last ones.

    Parameters
    ----------
    memory
        Budget of the process, bytes.

    Raises
    ------
    BudgetError
        If the budget is too small for the server.
    """

    def __init__(self, memory: int) -> None:
        self.cache = ArrayCache(cache_bytes(memory))
        self._attributes: dict[int, object] = {}

    def grey(self, tomogram: Tomogram, cut: Cut) -> np.ndarray:
        """The grey values of a cut: uint8 (rows, columns).

        Raises
        ------
        InputError
            If it is no part of the volume, or the store is damaged.
        """
        check_cut(cut, tomogram)
        return self.cache.get((self._identity(tomogram), cut), lambda: self._grey(tomogram, cut))

    def mean(self, tomogram: Tomogram, cut: Cut) -> np.ndarray:
        """The mean over the planes: float32 (rows, columns), smoothed if asked for; NaN where nothing is known."""
        if cut.sigma == 0:
            return self._mean(tomogram, cut)
        rows, columns = _ROWS_COLUMNS[cut.axis]
        shape = tomogram.at_level(cut.level).shape
        halo = smoothing_halo(cut.sigma)
        wide = replace(cut, sigma=0.0, rows=_widened(cut.rows, halo, shape[rows]), columns=_widened(cut.columns, halo, shape[columns]))
        smooth = smoothed(self._mean(tomogram, wide), cut.sigma)
        top, left = cut.rows[0] - wide.rows[0], cut.columns[0] - wide.columns[0]
        return smooth[top : top + cut.rows[1] - cut.rows[0], left : left + cut.columns[1] - cut.columns[0]]

    def scale(self, tomogram: Tomogram, cut: Cut) -> tuple[float, float]:
        """Mean and standard deviation of pictures of this kind, from the volume's middle; robust against gold and empty borders."""
        if as_score_map(tomogram).attributes.values == "probability":
            return 0.5, 0.5 / SPREAD
        middle = self._middle(tomogram, cut)
        key = (self._identity(tomogram), "scale", middle)
        mean, std = self.cache.get(key, lambda: np.array(robust_scale(self.mean(tomogram, middle))))
        return float(mean), float(std)

    def _identity(self, tomogram: Tomogram) -> tuple[str, int]:
        """Identify an opened store: one that was made again and reopened has other attributes."""
        self._attributes[id(tomogram.attributes)] = tomogram.attributes  # kept, so that no other ever has its number
        return tomogram.path, id(tomogram.attributes)

    def _grey(self, tomogram: Tomogram, cut: Cut) -> np.ndarray:
        mean, std = self.scale(tomogram, cut)
        return grey_values(self.mean(tomogram, cut), mean, std)

    def _middle(self, tomogram: Tomogram, cut: Cut) -> Cut:
        """The cut of the same kind in the volume's middle."""
        shape = tomogram.at_level(cut.level).shape
        rows, columns = (shape[axis] for axis in _ROWS_COLUMNS[cut.axis])
        depth = cut.planes[1] - cut.planes[0]
        first = (shape[AXES[cut.axis]] - depth) // 2
        half = TILE // 2
        return replace(
            cut,
            planes=(first, first + depth),
            rows=(max(0, rows // 2 - half), min(rows, rows // 2 + half)),
            columns=(max(0, columns // 2 - half), min(columns, columns // 2 + half)),
        )

    def _mean(self, tomogram: Tomogram, cut: Cut) -> np.ndarray:
        volume = tomogram.at_level(cut.level)
        decode = as_score_map(tomogram).attributes.decode  # of what is no score map: the voxels as floats
        axis = AXES[cut.axis]
        mean = slab_mean(lambda box: decode(self._read(volume, box, axis)), _box(cut), axis=axis, most=PIECE_BYTES // volume.dtype.itemsize)
        return mean.T if cut.axis == "x" else mean

    def _read(self, volume: Tomogram, box: Box, axis: int) -> np.ndarray:
        """The voxels of a slab, z y x; from the brick around it where that comes whole anyway."""
        brick = self._brick(volume, box, axis)
        if brick is None:
            return volume.read(box)
        voxels = self.cache.get((self._identity(volume), volume.level, brick), lambda: volume.read(brick))
        return voxels[box.relative_to(brick.start).slices]

    def _brick(self, volume: Tomogram, box: Box, axis: int) -> Box | None:
        """The chunks that a slab touches; None where its planes can be read alone, or the brick is too large to be kept."""
        if axis == 0 and _reads_planes(volume):
            return None
        chunk = volume.chunk[axis]
        first, last = box.start[axis] // chunk * chunk, min(-(-box.stop[axis] // chunk) * chunk, volume.shape[axis])
        start, stop = list(box.start), list(box.stop)
        start[axis], stop[axis] = first, last
        brick = Box(triple(start), triple(stop))
        size = brick.size * volume.dtype.itemsize
        return brick if size <= min(PIECE_BYTES, self.cache.limit // 4) and (last - first) > box.shape[axis] else None


def thumbnail(
    pictures: Pictures, tomogram: Tomogram, centre_zyx: Triple, axis: Axis, *, level: int, size: int, planes: int, sigma: float
) -> np.ndarray:
    """The picture around a voxel: uint8 (size, size), 0 beyond the volume.

    Parameters
    ----------
    centre_zyx
        Voxel of the level.
    axis
        Across which it is cut.
    level
        Of the pyramid.
    size
        Edge, voxels of the level.
    planes
        Thickness of the slab, voxels of the level.
    sigma
        Of the smoothing, voxels of the level.
    """
    shape = tomogram.at_level(level).shape
    result = np.zeros((size, size), dtype=np.uint8)
    rows, columns = _ROWS_COLUMNS[axis]
    spans = []
    for a, length in ((AXES[axis], planes), (rows, size), (columns, size)):
        first = centre_zyx[a] - length // 2
        spans.append((max(0, first), min(shape[a], first + length), first))
    if any(first >= last for first, last, _ in spans):
        return result
    (p0, p1, _), (r0, r1, top), (c0, c1, left) = spans
    grey = pictures.grey(tomogram, Cut(axis, level, (p0, p1), (r0, r1), (c0, c1), sigma))
    result[r0 - top : r1 - top, c0 - left : c1 - left] = grey
    return result


def _box(cut: Cut) -> Box:
    start, stop = [0, 0, 0], [0, 0, 0]
    rows, columns = _ROWS_COLUMNS[cut.axis]
    for axis, (first, last) in ((AXES[cut.axis], cut.planes), (rows, cut.rows), (columns, cut.columns)):
        start[axis], stop[axis] = first, last
    return Box(triple(start), triple(stop))


def _reads_planes(volume: Tomogram) -> bool:
    """Whether single planes along z can be read without the rest of their chunks."""
    codec = volume.levels[volume.level].codec if volume.is_ours else None
    return codec is not None and codec.name == "none"


def _widened(span: tuple[int, int], halo: int, size: int) -> tuple[int, int]:
    return max(0, span[0] - halo), min(size, span[1] + halo)
