"""How is a box read from shards that `shard_file` wrote, with no more memory than the box and a chunk?

1. For each shard that the box touches, read its index from the end of the file and compare its checksum.
2. For each chunk that the box touches, read its bytes into one buffer and compare their checksum; of an uncompressed chunk without
   a checksum, read only the planes that are needed.  From a shard on a server, fetch the bytes of several chunks together.
3. Copy the common part to its place in the result, or what the caller makes of it (for instance normalised voxels, while the chunk is in the cache).

zarr-python takes two to four times the box for the same read, because it fetches all chunks before it places any.

Limits: only stores that tomostream finished.  There every shard has a file, so a missing one is damage; Zarr would read zeros.
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO, RawIOBase
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Box, Triple
from tomostream.remote.places import Place
from tomostream.remote.ranges import RangeReader
from tomostream.store.pyramid import LevelLayout
from tomostream.store.shard_file import CHECKSUM_BYTES, Codec, checksum

PREFETCH_BYTES = 2**24  # fetched from a remote shard at a time


def read_sharded(
    folder: Place,
    layout: LevelLayout,
    dtype: np.dtype[Any],
    codec: Codec,
    box: Box,
    *,
    out: Shaped[np.ndarray, "z y x"],
    write: Callable[[np.ndarray, np.ndarray], object] = np.copyto,
) -> None:
    """Read a box of one level into an array.

    Parameters
    ----------
    folder
        The level's array.
    layout
        Its shape, chunks and shards.
    dtype, codec
        Type of its voxels, and encoding of its chunks.
    box
        Within the level.
    out
        Of the box's shape; any memory layout.
    write
        Writes into a part of `out` (its first argument) what it makes of the voxels there (its second, in the stored byte order).  It sees a
        chunk at a time, so each result must depend on its own voxel alone.

    Raises
    ------
    InputError
        If a shard is missing or damaged.
    """
    buffer = np.empty(math.prod(layout.chunk) * dtype.itemsize + CHECKSUM_BYTES, dtype=np.uint8)
    stored = dtype.newbyteorder("<")
    chunks = BlockGrid(layout.shard, layout.chunk)
    for index in layout.shards.touching(box):
        file = folder.joinpath("c", *map(str, index))
        core = layout.shards.core(index)
        wanted = core.clipped(box)
        try:
            with _opened(file) as handle:
                table = _read_index(handle, chunks.counts)
                part = wanted.relative_to(core.start)
                cells: Iterator[_Cell] = (
                    _Cell(p, int(table[p][0]), int(table[p][1]), chunks.core(p), chunks.core(p).clipped(part))
                    for p in chunks.touching(part)
                )
                if isinstance(handle, RangeReader):
                    cells = _fetched(handle, cells, layout.chunk, codec, dtype.itemsize)
                for cell in cells:
                    piece = _read_chunk(handle, cell, buffer, layout.chunk, stored, codec)
                    write(out[cell.wanted.shifted(core.start).relative_to(box.start).slices], piece)
        except FileNotFoundError:
            raise InputError(f"{file} is missing, although the store was complete when it was made; copy or make the store again") from None
        except (OSError, ValueError, RuntimeError, MemoryError) as error:  # damaged bytes make the codecs raise the latter three
            raise InputError(
                f"{file} can't be read ({error}); it is damaged: copy or make the store again (`tomostream check PATH --repair` can restore what tomostream wrote)"
            ) from None


def damage_of_shard(folder: Place, layout: LevelLayout, dtype: np.dtype[Any], codec: Codec, index: Triple) -> list[str]:
    """Read a whole shard; return every problem found, in words; an empty list if it is intact.

    Parameters
    ----------
    folder
        The level's array.
    layout, dtype, codec
        See `read_sharded`.
    index
        The shard's (z, y, x) index.
    """
    file = folder.joinpath("c", *map(str, index))
    chunks = BlockGrid(layout.shard, layout.chunk)
    core = layout.shards.core(index)
    inside = Box((0, 0, 0), core.shape)
    buffer = np.empty(math.prod(layout.chunk) * dtype.itemsize + CHECKSUM_BYTES, dtype=np.uint8)
    found: list[str] = []
    try:
        with _opened(file) as handle:
            table = _read_index(handle, chunks.counts)
            for p in chunks.touching(inside):
                cell = _Cell(p, int(table[p][0]), int(table[p][1]), chunks.core(p), chunks.core(p).clipped(inside))
                try:
                    _read_chunk(handle, cell, buffer, layout.chunk, dtype.newbyteorder("<"), codec)
                except (ValueError, RuntimeError, MemoryError) as error:
                    found.append(str(error))
    except FileNotFoundError:
        found.append("it is missing")
    except (OSError, ValueError) as error:
        found.append(f"it can't be read ({error})")
    return found


def _opened(file: Place) -> RawIOBase:
    if isinstance(file, Path):
        return FileIO(file)
    size = file.info().get("size")
    if size is None:
        raise ValueError("the server does not tell its length")
    return RangeReader(file, int(size))


@dataclass(frozen=True, slots=True)
class _Cell:
    """A chunk: its place in the shard, its entry in the index, its box and the part of it that is needed (both from the shard's corner)."""

    position: Triple
    offset: int
    length: int
    box: Box
    wanted: Box

    @property
    def part(self) -> Box:
        """The needed part, from the chunk's corner."""
        return self.wanted.relative_to(self.box.start)

    def extent(self, chunk: Triple, codec: Codec, itemsize: int) -> tuple[int, int]:
        """Return the position and number of the bytes that are needed."""
        if codec.name != "none" or codec.has_checksum:
            return self.offset, self.length
        plane = chunk[1] * chunk[2] * itemsize
        return self.offset + self.part.start[0] * plane, (self.part.stop[0] - self.part.start[0]) * plane


def _fetched(handle: RangeReader, cells: Iterator[_Cell], chunk: Triple, codec: Codec, itemsize: int) -> Iterator[_Cell]:
    """Yield the same cells; fetch the bytes that they need `PREFETCH_BYTES` ahead."""
    waiting: list[_Cell] = []
    parts: list[tuple[int, int]] = []
    for cell in cells:
        offset, length = cell.extent(chunk, codec, itemsize)
        if parts and sum(stop - start for start, stop in parts) + length > PREFETCH_BYTES:
            handle.prefetch(parts)
            yield from waiting
            waiting, parts = [], []
        waiting.append(cell)
        parts.append((offset, offset + length))
    handle.prefetch(parts)
    yield from waiting


def _read_index(handle: RawIOBase, counts: Triple) -> np.ndarray:
    """Return the (offset, length) of each chunk."""
    length = 16 * math.prod(counts)
    size = handle.seek(0, os.SEEK_END)
    tail = bytearray(length + CHECKSUM_BYTES)
    if size < len(tail):
        raise ValueError(f"it has {size} bytes, too few for the index of {math.prod(counts)} chunks")
    _read_exactly(handle, size - len(tail), memoryview(tail))
    index = bytes(tail[:length])
    if checksum(index) != tail[length:]:
        raise ValueError("the checksum of its index is wrong")
    return np.frombuffer(index, dtype="<u8").reshape(*counts, 2)


def _read_chunk(handle: RawIOBase, cell: _Cell, buffer: np.ndarray, chunk: Triple, stored: np.dtype[Any], codec: Codec) -> np.ndarray:
    """Return the needed voxels of a chunk; valid until the buffer is used again."""
    if cell.offset + cell.length > handle.seek(0, os.SEEK_END):
        raise ValueError(f"its chunk {cell.position}, of {cell.length} bytes at {cell.offset}, lies beyond its end")
    voxels = buffer[:-CHECKSUM_BYTES].view(stored)
    if codec.name == "none":
        expected = voxels.nbytes + (CHECKSUM_BYTES if codec.has_checksum else 0)
        if cell.length != expected:
            raise ValueError(f"its chunk {cell.position} has {cell.length} bytes instead of {expected}")
        offset, length = cell.extent(chunk, codec, stored.itemsize)
        _read_exactly(handle, offset, buffer[:length].data)
        if not codec.has_checksum:  # then these are only the needed planes
            return voxels[: length // stored.itemsize].reshape(-1, *chunk[1:])[:, cell.part.slices[1], cell.part.slices[2]]
        _compare(buffer, cell.position)
        return voxels.reshape(chunk)[cell.part.slices]
    encoded = np.empty(cell.length, dtype=np.uint8)
    _read_exactly(handle, cell.offset, encoded.data)
    codec.decode_into(_compare(encoded, cell.position).data if codec.has_checksum else encoded.data, voxels)
    return voxels.reshape(chunk)[cell.part.slices]


def _compare(encoded: np.ndarray, position: Triple) -> np.ndarray:
    """Return the bytes before the checksum, after comparing them with it."""
    if checksum(encoded[:-CHECKSUM_BYTES]) != encoded[-CHECKSUM_BYTES:].tobytes():
        raise ValueError(f"the checksum of its chunk {position} is wrong")
    return encoded[:-CHECKSUM_BYTES]


def _read_exactly(handle: RawIOBase, offset: int, target: memoryview) -> None:
    handle.seek(offset)
    done = 0
    while done < len(target):
        count = handle.readinto(target[done:])
        if not count:
            raise ValueError(f"it ends {len(target) - done} bytes too early")
        done += count
