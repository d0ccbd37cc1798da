"""How is a box read from shards that `shard_file` wrote, with no more memory than the box and a chunk?

1. For each shard that the box touches, its index is read from the file's end and its checksum compared.
2. For each chunk that the box touches, its bytes are read into one buffer; of an uncompressed chunk only the planes that are wanted.
3. The common part is copied to its place in the result.

Through zarr-python the same read holds two to four times the box, because all chunks are fetched before any is placed.

Limits: local stores that tomostream finished.  There every shard has a file, so one that is gone is damage; Zarr would read zeros.
"""

import math
import os
from io import FileIO
from typing import Any

import numpy as np
from jaxtyping import Shaped

from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Box, Triple
from tomostream.store.pyramid import LevelLayout
from tomostream.store.shard_file import Codec, crc32c

_CHECKSUM_BYTES = 4


def read_sharded(folder: str, layout: LevelLayout, dtype: np.dtype[Any], codec: Codec, box: Box) -> Shaped[np.ndarray, "z y x"]:
    """Read a box of one level.

    Parameters
    ----------
    folder
        The level's array.
    layout
        Its shape, chunks and shards.
    dtype, codec
        Of its voxels, and of its chunks.
    box
        Within the level.

    Raises
    ------
    InputError
        If a shard is missing or damaged.
    """
    result = np.empty(box.shape, dtype=dtype)
    buffer = np.empty(math.prod(layout.chunk), dtype=dtype.newbyteorder("<"))
    chunks = BlockGrid(layout.shard, layout.chunk)
    for index in layout.shards.touching(box):
        file = os.path.join(folder, "c", *map(str, index))
        core = layout.shards.core(index)
        wanted = core.clipped(box)
        try:
            with FileIO(file) as handle:
                table = _read_index(handle, chunks.counts)
                part = wanted.relative_to(core.start)
                for position in chunks.touching(part):
                    cell = chunks.core(position)
                    common = cell.clipped(part)
                    piece = _read_chunk(handle, table[position], buffer, layout.chunk, codec, common.relative_to(cell.start))
                    result[common.shifted(core.start).relative_to(box.start).slices] = piece
        except FileNotFoundError:
            raise InputError(f"{file} is missing, and the store was complete when it was made; copy or make it again") from None
        except (OSError, ValueError, RuntimeError, MemoryError) as error:  # damaged bytes make the codecs raise the latter three
            raise InputError(f"{file} can't be read ({error}); it is damaged: copy or make the store again") from None
    return result


def _read_index(handle: FileIO, counts: Triple) -> np.ndarray:
    """The (offset, length) of each chunk."""
    length = 16 * math.prod(counts)
    size = os.fstat(handle.fileno()).st_size
    tail = bytearray(length + _CHECKSUM_BYTES)
    if size < len(tail):
        raise ValueError(f"it has {size} bytes, too few for the index of {math.prod(counts)} chunks")
    _read_exactly(handle, size - len(tail), memoryview(tail))
    index = bytes(tail[:length])
    if crc32c(index) != int.from_bytes(tail[length:], "little"):
        raise ValueError("the checksum of its index is wrong")
    return np.frombuffer(index, dtype="<u8").reshape(*counts, 2)


def _read_chunk(handle: FileIO, entry: np.ndarray, buffer: np.ndarray, chunk: Triple, codec: Codec, part: Box) -> np.ndarray:
    """The voxels of `part` (counted from the chunk's corner); valid until the buffer is used again."""
    offset, length = (int(value) for value in entry)
    if codec.name == "none":
        if length != buffer.nbytes:
            raise ValueError(f"a chunk has {length} bytes instead of {buffer.nbytes}")
        plane = chunk[1] * chunk[2]
        planes = buffer[: (part.stop[0] - part.start[0]) * plane]
        _read_exactly(handle, offset + part.start[0] * plane * buffer.itemsize, planes.view(np.uint8).data)
        return planes.reshape(-1, *chunk[1:])[:, part.slices[1], part.slices[2]]
    if offset + length > os.fstat(handle.fileno()).st_size:
        raise ValueError(f"a chunk of {length} bytes at {offset} lies beyond its end")
    encoded = bytearray(length)
    _read_exactly(handle, offset, memoryview(encoded))
    codec.decode_into(encoded, buffer)
    return buffer.reshape(chunk)[part.slices]


def _read_exactly(handle: FileIO, offset: int, target: memoryview) -> None:
    handle.seek(offset)
    done = 0
    while done < len(target):
        count = handle.readinto(target[done:])
        if not count:
            raise ValueError(f"it ends {len(target) - done} bytes too early")
        done += count
