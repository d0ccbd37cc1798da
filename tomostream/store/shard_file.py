"""How does a block become the bytes of a Zarr shard?

A shard of Zarr's `sharding_indexed` codec is a file of encoded chunks followed by their index:

    chunk 0 | crc32c | chunk 1 | crc32c | ... | (offset, length) of each chunk, uint64 little-endian | crc32c of the index

1. Chunks are encoded one after the other, in C order; the part of a chunk beyond the volume is filled with zeros.  Each is followed by the
   checksum of its encoded bytes (Zarr's codec `crc32c`, the last of the chain), so that a flipped bit never becomes a voxel.
2. Chunks wholly beyond the volume have no bytes; the index marks them with 2^64 - 1.
3. A file is written under a temporary name and renamed; an object is uploaded.  A shard is therefore either complete or absent.

This is our own code because zarr-python copies a shard several times; zarr-python reads the result.

References
----------
Zarr v3 sharding codec: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
Zarr v3 crc32c codec: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/crc32c/index.html
CRC-32C (Castagnoli): RFC 3720, section 12.1.
"""

import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from jaxtyping import Shaped
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd
from zarr import Array
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Triple, triple
from tomostream.remote.atomic_files import remove_quietly
from tomostream.remote.places import ByteSink

_ABSENT = 2**64 - 1
_ZSTD = re.compile(r"^zstd(?::(\d+))?$")
_ZSTD_LEVEL = 1  # higher levels compress noise no better
_ZSTD_LARGEST_LEVEL = 22
_LZ4_EFFORT = 5
CHECKSUM_BYTES = 4


@dataclass(frozen=True, slots=True)
class Codec:
    """The lossless encoding of a chunk.

    Parameters
    ----------
    name
        The compression: `none`, `zstd` or `lz4-bitshuffle`.
    level
        Of zstd.
    has_checksum
        Whether a crc32c ends each chunk; stores of tomostream 0.1 and of other software may have none.
    """

    name: str
    level: int = 0
    has_checksum: bool = False

    @classmethod
    def parse(cls, text: str) -> "Codec":
        """Parse `none`, `zstd`, `zstd:LEVEL` or `lz4-bitshuffle`; chunks that we write have checksums.

        Raises
        ------
        InputError
            If it is another codec.
        """
        match = _ZSTD.match(text)
        if match is not None and 1 <= int(match[1] or _ZSTD_LEVEL) <= _ZSTD_LARGEST_LEVEL:
            return cls("zstd", int(match[1] or _ZSTD_LEVEL), has_checksum=True)
        if text in ("none", "lz4-bitshuffle"):
            return cls(text, has_checksum=True)
        raise InputError(f"codec '{text}' is unknown; allowed are none, zstd, zstd:LEVEL (1 to {_ZSTD_LARGEST_LEVEL}) and lz4-bitshuffle")

    def zarr_codecs(self, dtype: np.dtype[Any]) -> tuple[BytesBytesCodec, ...]:
        """Return the codecs after `bytes`, as Zarr metadata name them."""
        compressors: dict[str, tuple[BytesBytesCodec, ...]] = {
            "none": (),
            "zstd": (ZstdCodec(level=self.level, checksum=False),),
            "lz4-bitshuffle": (BloscCodec(cname="lz4", clevel=_LZ4_EFFORT, shuffle="bitshuffle", typesize=dtype.itemsize),),
        }
        return (*compressors[self.name], *((Crc32cCodec(),) if self.has_checksum else ()))

    def encode(self, chunk: Shaped[np.ndarray, "z y x"]) -> bytes | memoryview:
        """Encode a C-contiguous chunk; the caller adds the checksum."""
        if self.name == "zstd":
            return bytes(Zstd(level=self.level, checksum=False).encode(chunk))
        if self.name == "lz4-bitshuffle":
            return bytes(Blosc("lz4", _LZ4_EFFORT, Blosc.BITSHUFFLE).encode(chunk.reshape(-1)))
        return chunk.reshape(-1).view(np.uint8).data

    def decode_into(self, encoded: memoryview, buffer: Shaped[np.ndarray, " n"]) -> None:
        """Decode a compressed chunk (without its checksum) into a buffer of its size.

        Raises
        ------
        ValueError, RuntimeError
            If the bytes are damaged.
        """
        if self.name == "lz4-bitshuffle" and int.from_bytes(encoded[12:16], "little") != len(encoded):
            raise ValueError(f"it has {len(encoded)} bytes, its header says another number")  # else Blosc would read beyond its end
        try:
            decoded = (Zstd if self.name == "zstd" else Blosc)().decode(encoded)
        except SystemError as error:  # numcodecs trusts the size in a Blosc header, even a negative one
            raise ValueError(f"its header is wrong: {error}") from None
        buffer[...] = np.frombuffer(decoded, dtype=buffer.dtype)

    @classmethod
    def of_array(cls, array: Array[Any]) -> "Codec | None":
        """Return the codec of an array's chunks; None if it is another one."""
        kinds: list[type] = [type(compressor) for compressor in array.compressors]
        has_checksum = kinds[-1:] == [Crc32cCodec]
        names: dict[tuple[type, ...], str] = {(): "none", (ZstdCodec,): "zstd", (BloscCodec,): "lz4-bitshuffle"}
        name = names.get(tuple(kinds[:-1] if has_checksum else kinds))
        if name is None or array.filters or array.shards is None:
            return None
        level = next((compressor.level for compressor in array.compressors if isinstance(compressor, ZstdCodec)), 0)
        return cls(name, level, has_checksum=has_checksum)


def write_shard_bytes(handle: ByteSink, block: Shaped[np.ndarray, "z y x"], *, chunk: Triple, shard: Triple, codec: Codec) -> None:
    """Write the bytes of a shard to an open file or upload; parameters as of `write_shard_file`."""
    whole = BlockGrid(shard, chunk)
    index = np.full((*whole.counts, 2), _ABSENT, dtype="<u8")
    stored = block.dtype.newbyteorder("<")
    grid = BlockGrid(triple(block.shape), chunk)
    piece = np.empty(chunk, dtype=stored)  # one array for all chunks: allocating costs more than the copy
    offset = 0
    for position in grid.indices():
        core = grid.core(position)
        if core.shape != chunk:
            piece.fill(0)
        piece[tuple(slice(0, n) for n in core.shape)] = block[core.slices]
        data = codec.encode(piece)
        length = handle.write(data)
        if codec.has_checksum:
            length += handle.write(checksum(data))
        index[position] = offset, length
        offset += length
    table = index.tobytes()
    handle.write(table + checksum(table))


def write_shard_file(path: Path, block: Shaped[np.ndarray, "z y x"], *, chunk: Triple, shard: Triple, codec: Codec, scratch: Path) -> None:
    """Write the shard that holds `block`.

    Parameters
    ----------
    path
        The shard's file; its folder is created, but not the level's folder above it.
    block
        The shard's voxels inside the volume (fewer than `shard` at far faces), in any byte order.
    chunk, shard
        Edges in voxels.
    codec
        Encoding of the chunks.
    scratch
        A folder on the same disk that holds the file while it is written.

    Raises
    ------
    OSError
        If it can't be written.
    """
    temporary = scratch / uuid.uuid4().hex  # process ids repeat between the machines of a cluster
    try:
        with temporary.open("wb") as handle:
            write_shard_bytes(handle, block, chunk=chunk, shard=shard, codec=codec)
        try:
            temporary.replace(path)
        except FileNotFoundError:
            _make_folders(path)
            temporary.replace(path)
    except BaseException:
        remove_quietly(temporary)
        raise


def _make_folders(path: Path) -> None:
    """Create the folder `LEVEL/c/z/y` of a shard's file, unless the level's folder is gone (the store was finished or removed meanwhile)."""
    for folder in (path.parents[2], path.parents[1], path.parents[0]):
        folder.mkdir(exist_ok=True)


def checksum(data: bytes | memoryview | np.ndarray) -> bytes:
    """Return the CRC-32C (Castagnoli) of some bytes, as it is stored in a file.

    >>> checksum(b"123456789").hex()
    '839206e3'
    """
    value: int = google_crc32c.value(np.frombuffer(data, dtype=np.uint8))
    return value.to_bytes(CHECKSUM_BYTES, "little")
