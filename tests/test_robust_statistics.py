"""What normalises is decided by the sample, not by a few wild voxels, and not by how it was cut."""

from dataclasses import replace

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_files import write_store

from tomostream.errors import InputError
from tomostream.graph.moments import statistics_of
from tomostream.normalisation import PLAIN, ROBUST
from tomostream.robust_statistics import SAMPLE_VOX, Lattice
from tomostream.stages.voxel_statistics.stage import measure
from tomostream.tomogram import open_tomogram, store_normalisation


def ice(shape=(40, 60, 60), *, mean=120.0, std=10.0, dtype="f4"):
    return np.random.default_rng(0).normal(mean, std, shape).astype(dtype)


def robust_of(array):
    return statistics_of(array, clip_sigma=3.0).robust


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(3, 90)),
    st.tuples(st.integers(1, 9), st.integers(1, 13), st.integers(1, 91)),
    st.sampled_from(["f4", "f8", "i4", "i2", "u1"]),
    st.integers(0, 99),
)
def test_any_chunks_give_the_same_bits(shape, chunks, dtype, seed):
    array = np.random.default_rng(seed).normal(60, 20, shape).astype(dtype)
    with dask.config.set(scheduler="synchronous"):
        assert robust_of(da.from_array(array, chunks=chunks)) == robust_of(da.from_array(array, chunks=shape))


@given(st.tuples(st.integers(1, 3000), st.integers(1, 400), st.integers(1, 400)), st.data())
def test_the_blocks_samples_make_the_lattice_and_its_size_is_bounded(shape, data):
    lattice = Lattice(shape)
    number = np.prod([len(places) for places in lattice.axes])
    assert min(np.prod(shape), SAMPLE_VOX / 4) <= number <= SAMPLE_VOX
    axis = data.draw(st.integers(0, 2))
    cut = data.draw(st.integers(0, shape[axis]))
    line = np.arange(shape[axis])

    def along(first, last):
        block_shape = tuple(last - first if a == axis else n for a, n in enumerate(shape))
        start = tuple(first if a == axis else 0 for a in range(3))
        block = np.broadcast_to(np.expand_dims(line[first:last], tuple(a for a in range(3) if a != axis)), block_shape)
        return np.unique(lattice.values(block, start)) if last > first else np.empty(0)

    np.testing.assert_array_equal(np.concatenate([along(0, cut), along(cut, shape[axis])]), along(0, shape[axis]))


@pytest.mark.parametrize("dtype", ["i1", "i2", "f4"])
def test_without_wild_voxels_both_kinds_agree(dtype):
    array = ice(mean=0.0, std=25.0, dtype="f8").round().clip(-100, 100).astype(dtype)
    plain = statistics_of(array, clip_sigma=3.0)
    limit = 1e-9 if dtype != "f4" else 0.005
    assert plain.robust.mean == pytest.approx(plain.mean, abs=limit * plain.std)
    assert plain.robust.std == pytest.approx(plain.std, rel=limit)
    assert plain.robust.clipped_std == pytest.approx(plain.clipped_std, rel=limit)
    assert plain.robust.fill is None


@pytest.mark.parametrize("dtype", ["f4", "f2", "i2"])
def test_hot_voxels_decide_the_plain_statistics_and_not_the_robust_ones(dtype):
    array = ice(dtype="f8").astype(dtype)
    sound = robust_of(array)
    array[3, 4, 5] = array[30, 31, 32] = 30000
    found = statistics_of(array, clip_sigma=3.0)
    assert found.std > 10 * sound.std
    assert found.robust.std == pytest.approx(sound.std, rel=1e-4)
    assert abs(found.robust.apply(array)).max() < 4
    assert abs(found.of_kind(PLAIN).apply(array)).max() > 30


@pytest.mark.parametrize("dtype", ["f4", "i2"])
def test_gold_is_clipped(dtype):
    array = ice(dtype="f8")
    array[5:12, 5:25, 5:25] = -500  # 2 % of the volume
    found = robust_of(array.astype(dtype))
    assert (found.mean, found.std) == (pytest.approx(120, abs=0.6), pytest.approx(10, rel=0.03))


@pytest.mark.parametrize("value", [0, 120, 121])
@pytest.mark.parametrize("dtype", ["f4", "u1", "i2", "f2"])
def test_padding_is_left_out_and_becomes_the_mean(value, dtype):
    array = ice(dtype="f8").astype(dtype)
    array[:16] = value  # 40 %
    found = robust_of(array)
    assert found.fill == value
    assert (found.mean, found.std) == (pytest.approx(120, abs=0.6), pytest.approx(10, rel=0.05))
    standardised = found.apply(array)
    assert (standardised[:16] == 0).all()
    assert standardised[16:].std() == pytest.approx(1.0, abs=0.05)


def test_a_floor_at_which_values_were_cut_off_is_no_padding():
    array = np.maximum(ice(mean=0.0), -5.0)
    assert robust_of(array).fill is None
    assert robust_of(array.round().astype("i1")).fill is None


@pytest.mark.parametrize("array", [np.full((4, 5, 6), 7.0, dtype="f4"), np.eye(30, dtype="i1")[None], np.eye(30, dtype="f4")[None]])
def test_where_nothing_is_left_the_plain_statistics_stand_in(array):
    plain = statistics_of(array, clip_sigma=3.0)
    assert plain.robust == plain.of_kind(PLAIN)


@pytest.mark.parametrize("dtype", ["f4", "i2"])
def test_inverted_statistics_of_bright_particles_are_those_of_dark_ones(dtype):
    array = ice(mean=7.0, dtype="f8").astype(dtype)
    array[5:9, 5:9, 5:9] -= 25
    array[20:] = 3
    bright = robust_of(-array)
    assert bright.fill == -3
    np.testing.assert_allclose(replace(bright, is_inverted=True).apply(-array), robust_of(array).apply(array), atol=1e-6)
    same = array.astype("f4")
    np.testing.assert_array_equal(robust_of(array).apply(same, out=same), robust_of(array).apply(array))


def test_a_kind_that_is_not_known_is_refused_by_its_name():
    plain = statistics_of(ice(), clip_sigma=3.0)
    assert plain.of_kind(ROBUST) == plain.robust
    with pytest.raises(InputError, match="found 'robust-9'"):
        plain.of_kind("robust-9")
    with pytest.raises(InputError, match="tomostream stats"):
        plain.of_kind(PLAIN).of_kind(ROBUST)


def test_a_store_of_before_keeps_its_statistics_and_gets_the_robust_ones(tmp_path):
    path = write_store(tmp_path / "a.ome.zarr", ice((8, 16, 16)))
    plain = statistics_of(open_tomogram(path), clip_sigma=3.0).of_kind(PLAIN)
    store_normalisation(path, 0, plain)
    assert open_tomogram(path).normalisation == plain
    found = measure(open_tomogram(path), memory=2 * 10**9)
    assert (found.of_kind(PLAIN), found.robust.total) == (plain, 8 * 16 * 16)
    assert open_tomogram(path).normalisation == found
