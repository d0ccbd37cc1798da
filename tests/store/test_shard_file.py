import json
import re
from dataclasses import replace

import numpy as np
import pytest
import zarr
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.geometry import Box, triple
from tomostream.store.pyramid import LevelLayout
from tomostream.store.shard_file import Codec, checksum, write_shard_file
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


@pytest.mark.slow
@examples(30)
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
    assert found == Codec.parse(codec)
    start = triple([data.draw(st.integers(0, n - 1)) for n in shape])
    stop = triple([data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)])
    box = Box(start, stop)
    read = np.empty(box.shape, dtype=array.dtype.newbyteorder("="))
    read_sharded(folder / "0", layout, read.dtype, found, box, out=read)
    np.testing.assert_array_equal(read, volume[box.slices])


def test_chunks_beyond_the_volume_take_no_space(tmp_path):
    volume = np.ones((5, 4, 4), dtype=np.uint8)
    write_array(tmp_path / "a", volume, (4, 4, 4), (16, 16, 16), Codec("none", has_checksum=True))
    assert (tmp_path / "a" / "0" / "c" / "0" / "0" / "0").stat().st_size == 2 * (64 + 4) + 64 * 16 + 4


def test_crc32c_of_the_rfc():
    assert checksum(bytes(32)) == 0x8A9136AA.to_bytes(4, "little")  # RFC 3720, B.4


@pytest.mark.parametrize("text", ["gzip", "zstd:0", "zstd:23", "zstd:", "", "NONE", "zstd:1.5"])
def test_an_unknown_codec_is_refused_with_those_allowed(text):
    with pytest.raises(InputError, match=r"allowed are none, zstd, zstd:LEVEL \(1 to 22\) and lz4-bitshuffle"):
        Codec.parse(text)


def test_a_blosc_header_that_claims_a_negative_size_is_damage():
    encoded = bytearray(Codec("lz4-bitshuffle").encode(np.zeros((4, 4, 4), dtype=np.float32)))
    encoded[7] = 0x80  # the sign of its number of bytes
    with pytest.raises((ValueError, RuntimeError)):
        Codec("lz4-bitshuffle").decode_into(memoryview(encoded), np.empty(64, dtype=np.float32))


@examples(100)
@given(st.sampled_from(CODECS), st.booleans(), st.data())
def test_every_changed_byte_is_found_and_names_file_and_chunk(tmp_path_factory, codec, is_cut, data):
    folder = tmp_path_factory.mktemp("array")
    volume = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    layout = write_array(folder, volume, (4, 4, 4), (8, 8, 8), Codec.parse(codec))
    file = folder / "0" / "c" / "0" / "0" / "0"
    whole = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if is_cut:
        file.write_bytes(whole[:place])
    else:
        whole[place] ^= data.draw(st.integers(1, 255))
        file.write_bytes(whole)
    out = np.empty_like(volume)
    with pytest.raises(InputError, match=re.escape(str(file))) as caught:
        read_sharded(folder / "0", layout, volume.dtype, Codec.parse(codec), Box.whole((8, 8, 8)), out=out)
    if not is_cut:
        where = "index" if place >= len(whole) - 8 * 16 - 4 else r"chunk \([01], [01], [01]\)"
        assert re.search(f"the checksum of its {where} is wrong", str(caught.value))
    # zarr-python finds what lies in the chunks; in the index too, but for a file that is cut
    if not is_cut:
        with pytest.raises(Exception, match=r"(?i)checksum"):
            zarr.open_array(folder / "0", mode="r")[:]


@examples(30)
@given(st.sampled_from(CODECS), st.tuples(*[st.integers(0, 10)] * 3), st.tuples(*[st.integers(1, 6)] * 3))
def test_shards_without_checksums_as_0_1_wrote_them_stay_readable(tmp_path_factory, codec, start, size):
    folder = tmp_path_factory.mktemp("array")
    volume = np.random.default_rng(0).normal(size=(11, 12, 13)).astype(np.float32)
    bare = replace(Codec.parse(codec), has_checksum=False)
    layout = write_array(folder, volume, (4, 4, 4), (8, 8, 8), bare)
    array = zarr.open_array(folder / "0", mode="r")
    np.testing.assert_array_equal(array[:], volume)
    assert Codec.of_array(array) == bare
    box = Box(start, triple([a + n for a, n in zip(start, size, strict=True)])).clipped(Box.whole(layout.shape))
    read = np.empty(box.shape, dtype=np.float32)
    read_sharded(folder / "0", layout, volume.dtype, bare, box, out=read)
    np.testing.assert_array_equal(read, volume[box.slices])


def test_a_truncated_shard_is_refused_with_its_path(tmp_path):
    volume = np.ones((8, 8, 8), dtype=np.float32)
    layout = write_array(tmp_path / "a", volume, (4, 4, 4), (8, 8, 8), Codec("none"))
    file = tmp_path / "a" / "0" / "c" / "0" / "0" / "0"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=rf"{file} can't be read \(it has 100 bytes, too few for the index of 8 chunks\)"):
        read_sharded(tmp_path / "a" / "0", layout, volume.dtype, Codec("none"), Box.whole((8, 8, 8)), out=np.empty_like(volume))
