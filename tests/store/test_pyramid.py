import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, triple
from tomostream.store.pyramid import level_shape, mean_pooled, plan_levels, rounded_to, sum_dtype

EDGES = st.tuples(*[st.integers(1, 9)] * 3)
DTYPES = st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "float16", "float32", "float64"])


def mean_of_those_there(volume):
    """The definition, voxel by voxel, in float64."""
    result = np.empty([-(-n // 2) for n in volume.shape])
    for z, y, x in np.ndindex(result.shape):
        result[z, y, x] = volume[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype(np.float64).mean()
    return result


@given(EDGES, DTYPES, st.integers(0, 2**32 - 1))
def test_a_coarse_voxel_is_the_mean_of_the_voxels_that_there_are(shape, dtype, seed):
    volume = (np.random.default_rng(seed).normal(size=shape) * 50).clip(0, 127).astype(dtype)
    pooled = mean_pooled(volume)
    assert pooled.dtype == sum_dtype(volume.dtype)
    np.testing.assert_allclose(pooled, mean_of_those_there(volume), rtol=3e-7, atol=1e-7)


@given(EDGES, EDGES, st.integers(0, 2**32 - 1))
def test_pooling_in_even_blocks_is_pooling_the_whole_bit_for_bit(shape, half_block, seed):
    volume = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    whole = mean_pooled(volume)
    fine = BlockGrid(shape, triple([2 * b for b in half_block]))
    coarse = BlockGrid(level_shape(shape, 1), half_block)
    for index in fine.indices():
        np.testing.assert_array_equal(mean_pooled(volume[fine.core(index).slices]), whole[coarse.core(index).slices])


@given(hnp.arrays(np.int8, EDGES))
def test_integers_round_half_to_even(volume):
    expected = np.array([round(float(v)) for v in mean_of_those_there(volume).ravel()])  # Python rounds half to even
    np.testing.assert_array_equal(rounded_to(mean_pooled(volume), volume.dtype).ravel(), expected)


def test_nan_spreads_to_the_voxel_above_it_alone():
    volume = np.ones((6, 4, 4), dtype=np.float32)
    volume[5, 0, 3] = np.nan
    assert np.argwhere(np.isnan(mean_pooled(volume))).tolist() == [[2, 0, 1]]


def test_infinities_of_both_signs_give_nan_without_a_warning():
    volume = np.array([np.inf, -np.inf], dtype=np.float32).reshape(1, 1, 2)
    assert np.isnan(mean_pooled(volume)).all()


@given(st.tuples(*[st.integers(1, 700)] * 3), st.tuples(*[st.integers(1, 80)] * 3), st.tuples(*[st.integers(1, 300)] * 3))
def test_one_level_0_shard_fills_exactly_one_shard_of_every_level(shape, chunk, shard):
    levels = plan_levels(shape, chunk=chunk, shard=shard, levels=None)
    assert levels[0].shape == shape
    for k, level in enumerate(levels):
        assert level.shape == level_shape(shape, k)
        assert level.shards.counts == levels[0].shards.counts
        assert all(s % c == 0 for s, c in zip(level.shard, level.chunk, strict=True))
        for position in (triple([0, 0, 0]), triple([n - 1 for n in level.shards.counts])):
            fine, coarse = levels[0].shards.core(position), level.shards.core(position)
            assert coarse.start == triple([a // 2**k for a in fine.start])
            assert coarse.stop == triple([-(-b // 2**k) for b in fine.stop])


@pytest.mark.parametrize(
    ("shape", "levels", "coarsest_shard"),
    [
        ((300, 300, 300), 4, (32, 32, 32)),  # 300 150 75 38
        ((4096, 4096, 400), 5, (16, 16, 16)),  # the shard of 256 ends at 16
        ((64, 64, 64), 1, (64, 64, 64)),
        ((40, 512, 512), 4, (5, 32, 32)),  # an axis of one shard is no constraint
    ],
)
def test_automatic_levels_end_at_64_voxels_or_a_shard_of_16(shape, levels, coarsest_shard):
    plan = plan_levels(shape, chunk=(64, 64, 64), shard=(256, 256, 256), levels=None)
    assert (len(plan), plan[-1].shard) == (levels, coarsest_shard)


def test_a_small_volume_has_no_larger_chunks_and_shards_than_it_needs():
    level = plan_levels((40, 100, 300), chunk=(64, 64, 64), shard=(256, 256, 256), levels=1)[0]
    assert (level.chunk, level.shard) == ((40, 64, 64), (40, 128, 256))


def test_too_many_levels_are_refused_with_the_largest_number_allowed():
    with pytest.raises(InputError, match=r"levels 5: .* 1 to 3 levels.* at most 3"):
        plan_levels((300, 300, 300), chunk=(50, 50, 50), shard=(100, 100, 100), levels=5)


@pytest.mark.parametrize("levels", [0, -1])
def test_no_levels_are_refused(levels):
    with pytest.raises(InputError, match=f"levels {levels}"):
        plan_levels((30, 30, 30), chunk=(8, 8, 8), shard=(8, 8, 8), levels=levels)


def test_an_empty_volume_is_refused():
    with pytest.raises(InputError, match=r"shape \(0, 4, 4\)"):
        plan_levels((0, 4, 4), chunk=(2, 2, 2), shard=(4, 4, 4), levels=None)
