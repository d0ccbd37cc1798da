import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from tomostream.geometry import BlockGrid, Box
from tomostream.upsample import supporting_box, upsample


def _level_shape(shape, level):
    return tuple(-(-n // 2**level) for n in shape)


def _whole(values, shape, level):
    out = np.empty((len(values), *shape), dtype=np.float32)
    upsample(values, (0, 0, 0), Box.whole(shape), level, values.shape[1:], out)
    return out


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [(9, 16, 21), (1, 2, 30), (8, 8, 8)])
def test_equals_scipys_linear_interpolation_at_clamped_centres(shape, level):
    values = np.random.default_rng(0).standard_normal((2, *_level_shape(shape, level))).astype(np.float32)
    axes = [np.clip((np.arange(n) + 0.5) / 2**level - 0.5, 0, m - 1) for n, m in zip(shape, values.shape[1:], strict=True)]
    grid = np.meshgrid(*axes, indexing="ij")
    expected = np.stack([map_coordinates(v.astype(np.float64), grid, order=1, mode="nearest") for v in values])
    np.testing.assert_allclose(_whole(values, shape, level), expected, atol=1e-6)


@pytest.mark.slow
@examples(40)
@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3), block=st.tuples(*[st.integers(1, 9)] * 3), level=st.integers(0, 3), seed=st.integers(0, 99)
)
def test_any_split_gives_the_bits_of_the_whole_and_reads_only_its_supporting_box(shape, block, level, seed):
    coarse = _level_shape(shape, level)
    values = np.random.default_rng(seed).standard_normal((1, *coarse)).astype(np.float32)
    whole = _whole(values, shape, level)
    for core in BlockGrid(shape, block).cores():
        support = supporting_box(core, level, coarse)
        out = np.empty((1, *core.shape), dtype=np.float32)
        upsample(values[(slice(None), *support.slices)], support.start, core, level, coarse, out)
        assert out.tobytes() == whole[(slice(None), *core.slices)].tobytes()


def test_hand_drawn_row_at_level_1():
    values = np.array([0.0, 4.0, 8.0], dtype=np.float32).reshape(1, 1, 1, 3)
    # level-0 voxel i lies at i / 2 - 1/4 of level 1, clamped at both faces
    assert _whole(values, (1, 1, 6), 1)[0, 0, 0].tolist() == [0.0, 1.0, 3.0, 5.0, 7.0, 8.0]


def test_supporting_box_of_an_inner_voxel_pair_is_hand_countable():
    assert supporting_box(Box((2, 2, 2), (4, 4, 4)), 1, (8, 8, 8)) == Box((0, 0, 0), (3, 3, 3))
    assert supporting_box(Box((2, 2, 2), (4, 4, 4)), 0, (8, 8, 8)) == Box((2, 2, 2), (4, 4, 4))
    assert supporting_box(Box((0, 14, 0), (1, 16, 16)), 1, (8, 8, 8)) == Box((0, 6, 0), (1, 8, 8))
