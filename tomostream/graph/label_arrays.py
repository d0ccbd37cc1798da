"""The label mask of a whole volume as a lazy Dask array.

1. Each point is put into the bucket of every block that its ball may touch: its range of block indices along z, y, x, then all
   (block, point) pairs at once, sorted by block.  Work and memory grow with the number of pairs, not with points x blocks.
2. A task of a block carries the few points of its bucket and paints them (`tomostream.masks`).
3. A block without points is a broadcast zero: no memory, no painting.

A voxel's value follows from its absolute position alone, so the array is bit-identical for any chunks.

Limits: the graph has one task per block; nothing is painted before the array is computed.
"""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Box, Triple, triple
from tomostream.masks import Radius, check_labels, paint_checked


def label_array(
    points_zyx: np.ndarray,
    *,
    shape: Triple,
    radius: Radius,
    kind: str,
    chunks: Triple,
    values: np.ndarray | None = None,
) -> da.Array:
    """Build the lazy label mask of a volume.

    Parameters
    ----------
    points_zyx
        float64 (n, 3), voxels from the volume's corner, not rounded.
    shape
        Of the volume (z, y, x), voxels.
    radius
        Of the labels, voxels; one for all points, or float64 (n,).
    kind
        Shape of the labels: `sphere`, `gaussian` or `cube` (see `tomostream.masks`).
    chunks
        Shape of the blocks (z, y, x), voxels.
    values
        uint8 (n,), the value that each point paints, 1 to 255, for example 1 + the index of its species; None: 1.  Where labels overlap
        the smallest value is kept.

    Returns
    -------
    da.Array
        uint8, 0 where there is no label.

    Raises
    ------
    InputError
        If shape or chunks are not positive, the arrays disagree in length, or a label can't be painted.

    Examples
    --------
    >>> label_array(np.array([[1.0, 1.0, 2.5]]), shape=(3, 3, 5), radius=0.5, kind="sphere", chunks=(2, 2, 2)).compute()[1, 1]
    array([0, 0, 1, 1, 0], dtype=uint8)
    """
    points = np.ascontiguousarray(np.asarray(points_zyx, dtype=np.float64).reshape(-1, 3))
    radii = (
        np.broadcast_to(np.asarray(radius, dtype=np.float64), len(points)) if np.ndim(radius) == 0 else np.asarray(radius, dtype=np.float64)
    )
    if radii.shape != (len(points),) or (values is not None and values.shape != (len(points),)):
        sizes = f"{radii.shape} radii" if values is None else f"{radii.shape} radii and {values.shape} values"
        raise InputError(f"there must be one radius and one value for each point: found {len(points)} points, {sizes}")
    if min(shape) < 1 or min(chunks) < 1:
        raise InputError(f"a volume's and a chunk's edges must be at least 1 voxel, found {tuple(shape)} and {tuple(chunks)}")
    check_labels(points, radius, kind, values)

    grid = BlockGrid(triple(shape), triple(chunks))
    buckets = points_by_block(grid, points, radii)
    name = "labels-" + tokenize(points, radii, values, grid.shape, grid.block, kind)
    tasks: dict[Any, Any] = {}
    for index in grid.indices():
        core = grid.core(index)
        chosen = buckets.get(index)
        if chosen is None:
            tasks[(name, *index)] = (_background, core.shape)
        else:
            part = None if values is None else values[chosen]
            tasks[(name, *index)] = (_painted, core, points[chosen], radii[chosen], kind, grid.shape, part)
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[])
    edges = tuple(tuple(min(b, n - a) for a in range(0, n, b)) for n, b in zip(grid.shape, grid.block, strict=True))
    return da.Array(graph, name, edges, dtype=np.uint8)


def points_by_block(grid: BlockGrid, points_zyx: np.ndarray, radii: np.ndarray) -> dict[Triple, np.ndarray]:
    """Put each point's index into every block whose core its cube of half-edge `radii` may touch.

    Parameters
    ----------
    grid
        The blocks.
    points_zyx, radii
        float64 (n, 3) and (n,), voxels.

    Returns
    -------
    dict
        Ascending indices of points by block index, for the blocks that have any.
    """
    size, block, counts = (np.array(t, dtype=np.float64) for t in (grid.shape, grid.block, grid.counts))
    reach = radii[:, None]
    # rounded outwards as in `tomostream.masks`, so that no block misses a point
    low, high = np.floor(points_zyx - reach), np.ceil(points_zyx + reach)
    kept = np.flatnonzero(((high >= 0) & (low < size)).all(axis=1))
    first = np.clip(low[kept] // block, 0, counts - 1).astype(np.int64)
    spans = np.clip(high[kept] // block, 0, counts - 1).astype(np.int64) - first + 1
    pairs = spans.prod(axis=1)
    point = np.repeat(np.arange(kept.size), pairs)
    # the running number of a pair within its point, read as a (z, y, x) offset in the point's span of blocks
    running = np.arange(pairs.sum()) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    span = spans[point]
    offset = np.stack([running // (span[:, 1] * span[:, 2]), running // span[:, 2] % span[:, 1], running % span[:, 2]], axis=1)
    linear = np.ravel_multi_index(tuple((first[point] + offset).T), grid.counts)
    order = np.argsort(linear, kind="stable")
    blocks, starts = np.unique(linear[order], return_index=True)
    members = np.split(kept[point[order]], starts[1:])
    indices = zip(*(axis.tolist() for axis in np.unravel_index(blocks, grid.counts)), strict=True)
    return {triple(index): chosen for index, chosen in zip(indices, members, strict=False)}


def _background(shape: Triple) -> np.ndarray:
    return np.broadcast_to(np.zeros((), dtype=np.uint8), shape)


def _painted(core: Box, points: np.ndarray, radii: np.ndarray, kind: str, volume: Triple, values: np.ndarray | None) -> np.ndarray:
    return paint_checked(core, points, radii, shape=kind, volume=volume, values=values)
