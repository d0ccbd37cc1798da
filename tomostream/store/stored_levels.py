"""Which of a store's levels form a pyramid that tomostream can use?

Those before the first whose spacing is not 2^k times the finest, or whose shape is not ceil(n / 2^k): positions in any other level would
be misread.

Limits: metadata don't show whether a level was averaged or subsampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tomostream.errors import InputError
from tomostream.geometry import Triple, triple
from tomostream.store.ngff import ImageMetadata
from tomostream.store.pyramid import LevelLayout, level_shape
from tomostream.store.shard_file import Codec
from tomostream.store.zarr_opening import open_array

_MOST_VOXELS, _LONGEST_EDGE, _LARGEST_CHUNK_BYTES = 2**48, 2**24, 2**33
_SAME_SPACING = 0.01  # relative difference within which a stored level counts as 2^k times coarser


@dataclass(frozen=True, slots=True)
class StoredLevel:
    """An array of the store: its path in the group, its last three axes, and how its voxels are stored."""

    path: str
    layout: LevelLayout
    dtype: np.dtype[Any]
    codec: Codec | None  # None: a codec that only zarr-python reads

    @property
    def shape(self) -> Triple:
        """Shape of the level in voxels (z y x)."""
        return self.layout.shape


def stored_levels(path: str, metadata: ImageMetadata, zarr_format: int) -> tuple[tuple[StoredLevel, ...], tuple[str, ...]]:
    """Return the stored levels that are 2^k times coarser than the first, up to the first that is not, and warnings about the others."""
    levels = [_stored_level(path, metadata, 0, zarr_format)]
    for level in range(1, len(metadata.paths)):
        wanted = metadata.spacing * 2**level
        if any(abs(s / wanted - 1) > _SAME_SPACING for s in metadata.spacings[level]):
            return tuple(levels), (f"level {level} is not {2**level} times coarser than level 0; it is averaged on reading instead",)
        try:
            found = _stored_level(path, metadata, level, zarr_format)
        except InputError as error:
            return tuple(levels), (f"level {level} is averaged on reading: {error}",)
        if found.shape != level_shape(levels[0].shape, level):
            expected = level_shape(levels[0].shape, level)
            return tuple(levels), (f"level {level} has {found.shape} voxels, not {expected}; it is averaged on reading instead",)
        levels.append(found)
    return tuple(levels), ()


def _stored_level(path: str, metadata: ImageMetadata, level: int, zarr_format: int) -> StoredLevel:
    name = metadata.paths[level]
    array = open_array(path, name, zarr_format)
    leading = metadata.leading
    if array.ndim != leading + 3 or any(n != 1 for n in array.shape[:leading]) or min(array.shape) < 1:
        raise InputError(
            f"{path}/{name} has the shape {array.shape}; a tomogram has three axes (z, y, x) of at least one voxel, and at most axes of "
            "length 1 before them: choose one time point or channel and store it by itself"
        )
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise InputError(
            f"{path}/{name} has voxels of type {array.dtype}; a tomogram has integers or floating-point numbers of at most 64 bits"
        )
    if math.prod(array.shape) > _MOST_VOXELS or max(array.shape) > _LONGEST_EDGE:
        raise InputError(
            f"{path}/{name} claims {_times(array.shape)} voxels; edges of up to {_LONGEST_EDGE} and {_MOST_VOXELS} voxels in all are read: "
            "the metadata are damaged, or this is no tomogram"
        )
    for edges in (array.chunks, array.shards or array.chunks):
        if min(edges) < 1 or max(edges) > _LONGEST_EDGE:
            raise InputError(
                f"{path}/{name} claims chunks of {_times(edges)} voxels; their edges must be 1 to {_LONGEST_EDGE}: the metadata are damaged"
            )
    if any(shard % chunk for shard, chunk in zip(array.shards or array.chunks, array.chunks, strict=True)):
        raise InputError(
            f"{path}/{name} claims shards of {_times(array.shards)} voxels that are not whole chunks of {_times(array.chunks)}; it is damaged"
        )
    if math.prod(array.chunks) * array.dtype.itemsize > _LARGEST_CHUNK_BYTES:
        raise InputError(
            f"{path}/{name} has chunks of {_times(array.chunks)} voxels, which are decoded as a whole; at most "
            f"{_LARGEST_CHUNK_BYTES} bytes are allowed: store it again with smaller chunks"
        )
    chunk = triple(array.chunks[leading:])
    shard = chunk if array.shards is None else triple(array.shards[leading:])
    layout = LevelLayout(triple(array.shape[leading:]), chunk, shard)
    return StoredLevel(name, layout, array.dtype.newbyteorder("="), Codec.of_array(array))


def _times(edges: tuple[int, ...] | None) -> str:
    """Format edges for a message; a number of thousands of digits is not printed."""
    return " x ".join(str(edge) if abs(edge) < 10**20 else "an absurd number of" for edge in edges or ())
