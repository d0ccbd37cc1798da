"""Compute the voxel statistics of a lazy array with Dask, before and after the clip.

1. The first graph turns each block into a sketch (`tomostream.moments`) in the task that reads it, and merges the sketches in a tree
   whose shape depends on the block grid alone.
2. For 8- and 16-bit types the sketch is a histogram, which holds the answer.  For other types a second graph reads the blocks again,
   and standardises and clips them.  In a single graph the scheduler would keep every block in memory for the second pass.

The sums of a block, and the order in which blocks merge, are fixed, so the result is the same to the last bit for any number of workers.
Another block grid rounds differently, far below 1e-6 of the standard deviation.

Robust statistics (`tomostream.robust_statistics`) come from the first pass: from the histogram, or from a lattice of voxels.

Memory: a thread holds one block, what reading it takes, and scratch of fixed size (`projected_bytes`); never a float64 copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any, cast

import dask.array as da
import numpy as np

from tomostream.errors import InputError
from tomostream.graph.lazy_arrays import as_dask
from tomostream.moments import SCRATCH_BYTES, Histogram, Moments, check_dtype, check_moments, is_counted, normalisation_of
from tomostream.normalisation import Normalisation
from tomostream.robust_statistics import Lattice, robust_of_values
from tomostream.store.shard_sketches import statistics_of_counts

_FAN_IN = 2  # neighbours along each axis that merge at a time, so that few sketches wait in memory
_BLOCK_BYTES = 16_000_000  # smaller blocks need more calls, larger ones don't fit the cache
_HISTOGRAM_BYTES = 8 * 2**16
_BLOCK_COPIES = 4  # the block, its encoded and its decoded chunks, and the block before, which may not be freed yet


def statistics_of(array: object, *, clip_sigma: float) -> Normalisation:
    """Compute the statistics of a volume, out of core, on Dask's current scheduler.

    Parameters
    ----------
    array
        A tomogram, or a Dask, Zarr or numpy array of any number of axes (at least one): bool, integer or float of 16 to 64 bits.
        A Dask array keeps its chunks; the others are read in blocks of 16 MB or one chunk.
    clip_sigma
        The clip of the standardised voxels, in standard deviations; above zero.

    Returns
    -------
    Normalisation
        Within 1e-6 of float64 numpy over the finite voxels (means: of the standard deviation; deviations: relative).  A constant
        volume has `is_constant`, and zeros for the clipped data.

    Raises
    ------
    InputError
        If the data type is not supported, no voxel is finite, or squared values leave float64's range.

    Examples
    --------
    >>> statistics_of(da.arange(5, chunks=2), clip_sigma=3.0).mean
    2.0
    """
    lazy = as_dask(array, block_bytes=_BLOCK_BYTES)
    _check(lazy, clip_sigma)
    if is_counted(lazy.dtype):
        histogram = cast(Histogram, _reduced(lazy, lambda block, _: Histogram.of(block)))
        return statistics_of_counts(histogram, clip_sigma=clip_sigma)
    lattice = Lattice(lazy.shape)
    sampled = cast(_Sampled, _reduced(lazy, lambda block, start: _Sampled(Moments.of(block), (lattice.values(block, start),))))
    raw = sampled.moments
    check_moments(raw)
    clipped = None
    if raw.std > 0:
        sketch = partial(Moments.clipped, mean=raw.mean, std=raw.std, clip_sigma=clip_sigma, is_finite=raw.count == raw.total)
        clipped = cast(Moments, _reduced(lazy, lambda block, _: sketch(block)))
    plain = normalisation_of(raw, clipped, clip_sigma=clip_sigma)
    return replace(plain, robust=robust_of_values(np.concatenate(sampled.values), plain))


@dataclass(frozen=True, slots=True, eq=False)
class _Sampled:
    """Moments of blocks, and the voxels of the lattice in them; the order of the values does not matter, since they are sorted later."""

    moments: Moments
    values: tuple[np.ndarray, ...]

    def merge(self, other: _Sampled) -> _Sampled:
        return _Sampled(self.moments.merge(other.moments), self.values + other.values)


def projected_bytes(array: da.Array, *, threads: int) -> int:
    """Return the most bytes that `statistics_of` holds in one process; libraries come on top.

    Each thread has its block, what reading and decoding it takes, and scratch; the tree has its unmerged sketches.

    Parameters
    ----------
    array
        The array whose statistics are computed.
    threads
        Threads of the process.
    """
    block = math.prod(int(max(c)) for c in array.chunks) * int(array.dtype.itemsize)
    # the sample of the robust statistics, twice SAMPLE_BYTES, fits in the scratch that `Moments` does not use
    if not is_counted(array.dtype):
        return threads * (_BLOCK_COPIES * block + SCRATCH_BYTES)
    depth = max(1, *(math.ceil(math.log(max(n, 2), _FAN_IN)) for n in array.numblocks))
    sketch = _HISTOGRAM_BYTES if array.dtype.itemsize == 2 else 8 * 2**8
    return threads * (_BLOCK_COPIES * block + SCRATCH_BYTES + sketch) + sketch * depth * int(_FAN_IN**array.ndim)


def _check(array: da.Array, clip_sigma: float) -> None:
    check_dtype(array.dtype)
    if not 0 < clip_sigma < math.inf:
        raise InputError(f"the clip must be above zero and finite, found {clip_sigma} standard deviations")
    if array.ndim == 0:
        raise InputError("a single value has no statistics; give an array of at least one axis")
    if array.size == 0:
        raise InputError(f"an array of shape {array.shape} holds no voxel to take statistics of")


_Sketch = Moments | Histogram | _Sampled


def _reduced(array: da.Array, sketch: Callable[[np.ndarray, tuple[int, ...]], _Sketch]) -> _Sketch:
    """Run the graph: `sketch` each block (given its voxels and the index of the first), and merge the sketches in a tree.

    Each sketch is wrapped in an object array of one element, because Dask's blocks must be arrays.
    """
    sketches = da.map_blocks(
        partial(_chunk, sketch),
        array,
        chunks=tuple((1,) * len(edges) for edges in array.chunks),
        dtype=np.dtype(object),
        meta=np.empty((0,) * array.ndim, dtype=object),
    )
    lazy = da.reduction(
        sketches,
        chunk=_merged,
        combine=_merged,
        aggregate=_merged,
        split_every=dict.fromkeys(range(array.ndim), _FAN_IN),
        dtype=np.dtype(object),
        meta=np.empty((), dtype=object),
        name="statistics",
    )
    return cast(_Sketch, lazy.compute().item())


def _chunk(sketch: Callable[[np.ndarray, tuple[int, ...]], _Sketch], block: np.ndarray, block_info: Any) -> np.ndarray:
    start = tuple(int(first) for first, _ in block_info[0]["array-location"])
    return _boxed(sketch(block, start), tuple(range(block.ndim)), keepdims=True)


def _merged(sketches: np.ndarray, axis: tuple[int, ...], keepdims: bool) -> np.ndarray:
    """Merge neighbours, z slowest."""
    return _boxed(reduce(lambda a, b: a.merge(b), sketches.ravel().tolist()), axis, keepdims)


def _boxed(sketch: _Sketch, axis: tuple[int, ...], keepdims: bool) -> np.ndarray:
    box = np.empty((1,) * len(axis) if keepdims else (), dtype=object)
    box[...] = sketch
    return box
