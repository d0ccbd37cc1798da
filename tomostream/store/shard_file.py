"""How does a block become the bytes of a Zarr shard?

A shard of Zarr's `sharding_indexed` codec is a file of encoded chunks followed by their index:

    chunk 0 | chunk 1 | ... | (offset, length) of each chunk, uint64 little-endian | crc32c of the index

1. Chunks are encoded one after the other, in C order; the part of a chunk beyond the volume is filled with zeros.
2. Chunks wholly beyond the volume have no bytes; the index marks them with 2^64 - 1.
3. A file is written under a temporary name and renamed, an object is uploaded: a shard is whole or absent.

Written directly because zarr-python's own path copies a shard several times; what it reads is the same.

References
----------
Zarr v3 sharding codec: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
CRC-32C (Castagnoli): RFC 3720, section 12.1.
"""

import functools
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from zarr import Array
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, ZstdCodec

from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Triple, triple
from tomostream.remote.places import ByteSink

_ABSENT = 2**64 - 1
_ZSTD = re.compile(r"^zstd(?::(\d+))?$")
_ZSTD_LEVEL = 1  # float noise packs no better at higher levels
_ZSTD_LARGEST_LEVEL = 22
_LZ4_EFFORT = 5
_CRC32C_POLYNOMIAL = 0x82F63B78  # reversed


@dataclass(frozen=True, slots=True)
class Codec:
    """A lossless compression: `none`, `zstd` (with its level) or `lz4-bitshuffle`."""

    name: str
    level: int = 0

    @classmethod
    def parse(cls, text: str) -> "Codec":
        """Read `none`, `zstd`, `zstd:LEVEL` or `lz4-bitshuffle`.

        Raises
        ------
        InputError
            If it is none of them.
        """
        match = _ZSTD.match(text)
        if match is not None and 1 <= int(match[1] or _ZSTD_LEVEL) <= _ZSTD_LARGEST_LEVEL:
            return cls("zstd", int(match[1] or _ZSTD_LEVEL))
        if text in ("none", "lz4-bitshuffle"):
            return cls(text)
        raise InputError(f"codec '{text}' is not known; allowed are none, zstd, zstd:LEVEL (1 to {_ZSTD_LARGEST_LEVEL}) and lz4-bitshuffle")

    def zarr_codec(self, dtype: np.dtype[Any]) -> BytesBytesCodec | None:
        """The same as Zarr metadata names it."""
        if self.name == "zstd":
            return ZstdCodec(level=self.level, checksum=False)
        if self.name == "lz4-bitshuffle":
            return BloscCodec(cname="lz4", clevel=_LZ4_EFFORT, shuffle="bitshuffle", typesize=dtype.itemsize)
        return None

    def encode(self, chunk: Shaped[np.ndarray, "z y x"]) -> bytes | memoryview:
        """Encode a C-contiguous chunk."""
        if self.name == "zstd":
            return bytes(Zstd(level=self.level, checksum=False).encode(chunk))
        if self.name == "lz4-bitshuffle":
            return bytes(Blosc("lz4", _LZ4_EFFORT, Blosc.BITSHUFFLE).encode(chunk.reshape(-1)))
        return chunk.reshape(-1).view(np.uint8).data

    def decode_into(self, encoded: bytearray, buffer: Shaped[np.ndarray, " n"]) -> None:
        """Decode a chunk into a buffer of its size.

        Raises
        ------
        ValueError, RuntimeError
            If the bytes are damaged.
        """
        try:
            decoded = (Zstd if self.name == "zstd" else Blosc)().decode(encoded)
        except SystemError as error:  # numcodecs trusts the size that a Blosc header claims, even a negative one
            raise ValueError(f"its header is wrong: {error}") from None
        buffer[...] = np.frombuffer(decoded, dtype=buffer.dtype)

    @classmethod
    def of_array(cls, array: Array[Any]) -> "Codec | None":
        """The codec of an array's chunks; None if it is none of these."""
        kinds = [type(compressor) for compressor in array.compressors]
        names: dict[tuple[type, ...], str] = {(): "none", (ZstdCodec,): "zstd", (BloscCodec,): "lz4-bitshuffle"}
        name = names.get(tuple(kinds))
        return None if name is None or array.filters or array.shards is None else cls(name)


def write_shard_bytes(handle: ByteSink, block: Shaped[np.ndarray, "z y x"], *, chunk: Triple, shard: Triple, codec: Codec) -> None:
    """Write the bytes of a shard to an open file or upload; parameters as of `write_shard_file`."""
    whole = BlockGrid(shard, chunk)
    index = np.full((*whole.counts, 2), _ABSENT, dtype="<u8")
    stored = block.dtype.newbyteorder("<")
    grid = BlockGrid(triple(block.shape), chunk)
    piece = np.empty(chunk, dtype=stored)  # one for all: new pages cost more than the copy itself
    offset = 0
    for position in grid.indices():
        core = grid.core(position)
        if core.shape != chunk:
            piece.fill(0)
        piece[tuple(slice(0, n) for n in core.shape)] = block[core.slices]
        data = codec.encode(piece)
        index[position] = offset, len(data)
        offset += handle.write(data)
    table = index.tobytes()
    handle.write(table + crc32c(table).to_bytes(4, "little"))


def write_shard_file(path: Path, block: Shaped[np.ndarray, "z y x"], *, chunk: Triple, shard: Triple, codec: Codec, scratch: Path) -> None:
    """Write the shard that holds `block`.

    Parameters
    ----------
    path
        The shard's file; its folder is made, but not the level's above it.
    block
        The shard's voxels that lie in the volume (at far faces fewer than `shard`), in any byte order.
    chunk, shard
        Edges in voxels.
    codec
        Of the chunks.
    scratch
        A folder on the same disk for the file while it is written.

    Raises
    ------
    OSError
        If it can't be written.
    """
    temporary = scratch / uuid.uuid4().hex  # process numbers repeat between the machines of a cluster
    try:
        with temporary.open("wb") as handle:
            write_shard_bytes(handle, block, chunk=chunk, shard=shard, codec=codec)
        try:
            temporary.replace(path)
        except FileNotFoundError:
            _make_folders(path)
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _make_folders(path: Path) -> None:
    """Make `LEVEL/c/z/y` of a shard's file, unless the level itself is gone (the store was finished or removed meanwhile)."""
    for folder in (path.parents[2], path.parents[1], path.parents[0]):
        folder.mkdir(exist_ok=True)


@functools.cache
def _crc32c_table() -> list[int]:
    table: list[int] = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_CRC32C_POLYNOMIAL if value & 1 else 0)  # noqa: PLW2901 (the usual form of the algorithm)
        table.append(value)
    return table


@functools.lru_cache(maxsize=16)  # uncompressed shards share one index
def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli) checksum of a short byte string.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    table = _crc32c_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
