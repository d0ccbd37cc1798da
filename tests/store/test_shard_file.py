import contextlib
import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.geometry import Box, triple
from tomostream.store.pyramid import LevelLayout
from tomostream.store.shard_file import Codec, crc32c, write_shard_file
from tomostream.store.shard_reading import read_sharded
from tomostream.store.specification import StoreLayout

CODECS = ["none", "zstd", "zstd:5", "lz4-bitshuffle"]


def write_array(folder, volume, chunk, shard, codec):
    """An array whose shards are written directly, with the metadata that zarr-python made."""
    layout = LevelLayout(triple(volume.shape), chunk, shard)
    (folder / "scratch").mkdir(parents=True)
    (folder / "0").mkdir()
    metadata = StoreLayout((layout,), volume.dtype, codec).array_metadata(0)
    (folder / "0" / "zarr.json").write_text(json.dumps(metadata))
    for index in layout.shards.indices():
        path = folder.joinpath("0", "c", *map(str, index))
        block = volume[layout.shards.core(index).slices]
        write_shard_file(path, block, chunk=chunk, shard=shard, codec=codec, scratch=folder / "scratch")
    assert list((folder / "scratch").iterdir()) == []
    return layout


SMALL = st.tuples(*[st.integers(1, 11)] * 3)


@settings(max_examples=30, deadline=None)
@given(
    SMALL,
    st.tuples(*[st.integers(1, 4)] * 3),
    st.tuples(*[st.integers(1, 3)] * 3),
    st.sampled_from(CODECS),
    st.sampled_from(["<i1", ">i2", "<f2", ">f4", "<f8"]),
    st.data(),
)
def test_zarr_and_the_direct_reader_read_what_was_written(tmp_path_factory, shape, chunk, chunks, codec, dtype, data):
    volume = (np.random.default_rng(3).normal(size=shape) * 30).astype(dtype)
    folder = tmp_path_factory.mktemp("array")
    shard = triple([c * n for c, n in zip(chunk, chunks, strict=True)])
    layout = write_array(folder, volume, chunk, shard, Codec.parse(codec))
    array = zarr.open_array(folder / "0", mode="r")
    np.testing.assert_array_equal(array[:], volume)
    found = Codec.of_array(array)
    assert found is not None
    start = triple([data.draw(st.integers(0, n - 1)) for n in shape])
    stop = triple([data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)])
    box = Box(start, stop)
    read = np.empty(box.shape, dtype=array.dtype.newbyteorder("="))
    read_sharded(folder / "0", layout, read.dtype, found, box, out=read)
    np.testing.assert_array_equal(read, volume[box.slices])


def test_chunks_beyond_the_volume_take_no_space(tmp_path):
    volume = np.ones((5, 4, 4), dtype=np.uint8)
    write_array(tmp_path / "a", volume, (4, 4, 4), (16, 16, 16), Codec("none"))
    assert (tmp_path / "a" / "0" / "c" / "0" / "0" / "0").stat().st_size == 2 * 64 + 64 * 16 + 4


def test_crc32c_of_the_rfc():
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


@pytest.mark.parametrize("text", ["gzip", "zstd:0", "zstd:23", "zstd:", "", "NONE", "zstd:1.5"])
def test_an_unknown_codec_is_refused_with_those_allowed(text):
    with pytest.raises(InputError, match=r"allowed are none, zstd, zstd:LEVEL \(1 to 22\) and lz4-bitshuffle"):
        Codec.parse(text)


def test_a_blosc_header_that_claims_a_negative_size_is_damage():
    encoded = bytearray(Codec("lz4-bitshuffle").encode(np.zeros((4, 4, 4), dtype=np.float32)))
    encoded[7] = 0x80  # the sign of its number of bytes
    with pytest.raises((ValueError, RuntimeError)):
        Codec("lz4-bitshuffle").decode_into(encoded, np.empty(64, dtype=np.float32))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CODECS), st.data())
def test_damage_is_refused_or_confined_to_voxels(tmp_path_factory, codec, data):
    folder = tmp_path_factory.mktemp("array")
    volume = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    layout = write_array(folder, volume, (4, 4, 4), (8, 8, 8), Codec.parse(codec))
    file = folder / "0" / "c" / "0" / "0" / "0"
    whole = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        broken = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        broken = whole
        broken[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(broken)
    with contextlib.suppress(InputError):
        read_sharded(folder / "0", layout, volume.dtype, Codec.parse(codec), Box.whole((8, 8, 8)), out=np.empty_like(volume))
        assert len(broken) == len(whole)


def test_a_truncated_shard_is_refused_with_its_path(tmp_path):
    volume = np.ones((8, 8, 8), dtype=np.float32)
    layout = write_array(tmp_path / "a", volume, (4, 4, 4), (8, 8, 8), Codec("none"))
    file = tmp_path / "a" / "0" / "c" / "0" / "0" / "0"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=rf"{file} can't be read \(it has 100 bytes, too few for the index of 8 chunks\)"):
        read_sharded(tmp_path / "a" / "0", layout, volume.dtype, Codec("none"), Box.whole((8, 8, 8)), out=np.empty_like(volume))
