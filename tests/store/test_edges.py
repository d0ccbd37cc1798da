"""Whole chunks hardly leave the volume, at every level and for every shape; what is given is honoured."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mrc_files import write_mrc

from tomostream.geometry import Box, triple
from tomostream.inference.plan import MAX_SHARD_VOX
from tomostream.store.conversion import ConvertSettings, convert_file
from tomostream.store.edges import even_chunk
from tomostream.store.omezarr import StoreSpec, StoreWriter
from tomostream.store.pyramid import plan_levels
from tomostream.tomogram import open_tomogram

MOST = 0.05  # of a volume's voxels: the promise
SHAPES = st.tuples(*[st.integers(1, 1100)] * 3)


def excess(levels):
    return sum(level.stored_voxels for level in levels) / sum(math.prod(level.shape) for level in levels) - 1


@given(SHAPES, st.none() | st.integers(1, 4))
@example((1, 1, 409), None)  # coarse levels weigh more where axes can't be halved
def test_padding_is_at_most_a_twentieth_of_any_volume(shape, levels):
    if levels is not None and 2 ** (levels - 1) > max(shape):
        levels = 1
    assert excess(plan_levels(shape, chunk=None, shard=None, levels=levels)) <= MOST


@given(SHAPES)
def test_padding_of_a_score_map_is_at_most_a_twentieth_of_any_volume(shape):
    chunk = even_chunk(shape)
    assert max(chunk) <= MAX_SHARD_VOX // 4
    assert math.prod(-(-n // c) * c for n, c in zip(shape, chunk, strict=True)) <= (1 + MOST) * math.prod(shape)


@pytest.mark.slow
@given(SHAPES)
def test_chosen_shards_are_whole_chunks_and_one_fills_one_of_every_level(shape):
    levels = plan_levels(shape, chunk=None, shard=None, levels=None)
    for k, level in enumerate(levels):
        assert all(s % c == 0 for s, c in zip(level.shard, level.chunk, strict=True))
        assert level.shards.counts == levels[0].shards.counts
        last = triple([n - 1 for n in level.shards.counts])
        assert level.shards.core(last).start == triple([a // 2**k for a in levels[0].shards.core(last).start])
    assert len(levels) == len(plan_levels(shape, chunk=(64, 64, 64), shard=(256, 256, 256), levels=None))


@pytest.mark.parametrize("shape", [(72, 464, 464), (112, 320, 320), (265, 265, 265), (500, 1000, 1000), (300, 1440, 1022)])
def test_usual_volumes_get_edges_near_the_nominal_ones(shape):
    finest = plan_levels(shape, chunk=None, shard=None, levels=None)[0]
    assert all(40 <= c <= 96 for c in finest.chunk)
    assert all(min(n, 128) <= s <= 448 for n, s in zip(shape, finest.shard, strict=True))


def test_given_edges_are_honoured():
    one = plan_levels((72, 464, 464), chunk=(64, 64, 64), shard=None, levels=1)[0]
    assert (one.chunk, one.shard) == ((64, 64, 64), (128, 256, 256))
    other = plan_levels((72, 464, 464), chunk=None, shard=(128, 128, 128), levels=1)[0]
    assert (other.chunk, other.shard) == ((64, 64, 64), (128, 128, 128))


@pytest.mark.slow
@given(st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(300, 700)), st.integers(0, 2**32 - 1))
def test_a_store_of_chosen_edges_gives_back_every_voxel(tmp_path_factory, shape, seed):
    rng = np.random.default_rng(seed)
    volume = rng.integers(-128, 128, shape, dtype=np.int8)
    spec = StoreSpec("v", shape, volume.dtype, 10.0, None, None, "none", None)
    path = tmp_path_factory.mktemp("edges") / "v.ome.zarr"
    with StoreWriter.create_or_resume(path, spec, fingerprint={}, overwrite=False) as writer:
        for index in writer.pending():
            writer.write(index, volume[writer.shards.core(index).slices])
            writer.mark_done(index)
        writer.finish()
    tomogram = open_tomogram(path)
    np.testing.assert_array_equal(tomogram.read(Box.whole(shape)), volume)
    start = triple([int(rng.integers(0, n)) for n in shape])
    box = Box(start, triple([int(rng.integers(a, n)) + 1 for a, n in zip(start, shape, strict=True)]))
    np.testing.assert_array_equal(tomogram.read(box), volume[box.slices])


def test_a_store_that_an_earlier_release_made_is_left_as_it_is(tmp_path):
    source = write_mrc(tmp_path / "v.mrc", np.zeros((70, 80, 90), dtype=np.int8))
    nominal = ConvertSettings(chunk=(64, 64, 64), shard=(256, 256, 256))
    store = convert_file(source, tmp_path / "out", nominal, memory=2 * 10**9, overwrite=False, report=lambda _: None)
    before = (store / "zarr.json").read_bytes()
    again = convert_file(source, tmp_path / "out", ConvertSettings(), memory=2 * 10**9, overwrite=False, report=lambda _: None)
    assert (again / "zarr.json").read_bytes() == before
    anew = convert_file(source, tmp_path / "out", ConvertSettings(), memory=2 * 10**9, overwrite=True, report=lambda _: None)
    assert open_tomogram(anew).chunk == even_chunk((70, 80, 90))
