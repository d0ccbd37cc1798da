"""Wrap an array on disk or in memory as a Dask array whose blocks are small enough and cheap to read.

1. A tomogram or a Zarr array is cut along its shards.  A shard over the limit is divided evenly, its longest axis first, into parts of
   whole chunks.  A tomogram reads its blocks itself, at any level, stored or not.
2. A numpy array is cut along its slowest axis only, so that blocks are contiguous views.
3. A Dask array keeps its blocks.

Limits: a block is never smaller than one chunk (Zarr) or one slice (numpy), whatever the limit; reading a level that is not stored takes
more memory than its blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import dask.array as da
import numpy as np
import zarr

from tomostream.errors import InputError
from tomostream.store.slicing import SlicedByBox
from tomostream.tomogram import Tomogram


def as_dask(array: object, *, block_bytes: int) -> da.Array:
    """Wrap an array lazily; nothing is read or copied.

    Parameters
    ----------
    array
        A tomogram (at its level), or a Dask, Zarr or numpy array.
    block_bytes
        Limit of one block in memory, bytes (the module says how small a block can be).

    Raises
    ------
    InputError
        If it is another kind of object.
    """
    if isinstance(array, da.Array):
        return array
    if isinstance(array, Tomogram):
        blocks = block_shape(array.shape, array.shard, array.chunk, array.dtype.itemsize, block_bytes=block_bytes)
        return cast(
            da.Array,
            da.from_array(
                SlicedByBox(array.read, array.shape, array.dtype),
                chunks=blocks,
                name=False,
                fancy=False,
                meta=np.empty((0, 0, 0), dtype=array.dtype),
                inline_array=True,
            ),
        )
    if isinstance(array, zarr.Array):
        shard = array.chunks if array.shards is None else array.shards
        blocks = block_shape(array.shape, shard, array.chunks, array.dtype.itemsize, block_bytes=block_bytes)
        return cast(da.Array, da.from_zarr(array, chunks=blocks))
    if isinstance(array, np.ndarray):
        slice_bytes = max(1, math.prod(array.shape[1:]) * array.dtype.itemsize)
        # name=False, because otherwise Dask would read the whole array to make a name from its content
        chunks = (max(1, block_bytes // slice_bytes), *array.shape[1:])
        return cast(da.Array, da.from_array(array, chunks=chunks, name=False))
    raise InputError(f"expected a tomogram, or a numpy, zarr or dask array, found {type(array).__module__}.{type(array).__qualname__}")


def block_shape(shape: Sequence[int], shard: Sequence[int], chunk: Sequence[int], itemsize: int, *, block_bytes: int) -> tuple[int, ...]:
    """Find the largest block that divides a shard evenly into whole chunks and holds at most `block_bytes`, or one chunk.

    Parameters
    ----------
    shape, shard, chunk
        Of the array, of its outer and of its inner unit of storage; voxels.
    itemsize
        Bytes of a voxel.
    block_bytes
        Limit of the block in memory.

    Examples
    --------
    >>> block_shape((500, 1000, 1000), (256, 256, 256), (64, 64, 64), 4, block_bytes=20_000_000)
    (128, 128, 256)
    """
    units = [s // c if n > s else -(-n // c) for n, s, c in zip(shape, shard, chunk, strict=True)]
    while max(units) > 1 and math.prod(u * c for u, c in zip(units, chunk, strict=True)) * itemsize > block_bytes:
        edges = [u * c if u > 1 else 0 for u, c in zip(units, chunk, strict=True)]
        axis = edges.index(max(edges))
        units[axis] //= next(f for f in range(2, units[axis] + 1) if units[axis] % f == 0)
    return tuple(max(1, u) * c for u, c in zip(units, chunk, strict=True))
