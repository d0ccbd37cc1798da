from __future__ import annotations

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tomostream.geometry import BlockGrid, Box
from tomostream.picking.smoothing import ball_mean


def mean_in_blocks(scores: np.ndarray, radius: float, block: tuple[int, int, int]) -> np.ndarray:
    whole = Box.whole(scores.shape)
    result = np.empty(scores.shape)
    for core in BlockGrid(scores.shape, block).cores():
        at = core.expanded(int(radius)).clipped(whole)
        result[core.slices] = ball_mean(scores[at.slices], at=at, wanted=core, shape=scores.shape, radius=radius)
    return result


def convolved_mean(scores: np.ndarray, radius: float) -> np.ndarray:
    offsets = np.indices((2 * int(radius) + 1,) * 3) - int(radius)
    ball = ((offsets**2).sum(axis=0) <= radius * radius).astype(float)
    present = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        mean = ndimage.convolve(np.where(present, scores, 0.0), ball, mode="constant") / ndimage.convolve(
            present.astype(float), ball, mode="constant"
        )
    return np.where(present, mean, np.nan)


@examples(60)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(1, 11)] * 3),
    st.tuples(*[st.integers(1, 11)] * 3),
    st.sampled_from([1.0, 1.5, 2.0, 2.9, 4.2]),
    st.booleans(),
)
def test_block_means_have_the_bits_of_the_whole_volume_filter(seed, shape, block, radius, has_missing):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 6, shape)
    if has_missing:
        scores[rng.random(shape) < 0.2] = np.nan
    whole = mean_in_blocks(scores, radius, shape)
    np.testing.assert_array_equal(mean_in_blocks(scores, radius, block).view(np.int64), whole.view(np.int64))
    np.testing.assert_allclose(whole, convolved_mean(scores, radius), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("dtype", ["f2", "f4", "i1", "u2"])
def test_the_mean_of_a_constant_is_the_constant_up_to_the_faces(dtype):
    scores = np.full((9, 4, 13), 3, dtype=dtype)
    np.testing.assert_array_equal(mean_in_blocks(scores, 3.0, (4, 4, 5)), 3.0)


def test_a_volume_wider_than_a_tile_has_the_same_bits():
    scores = np.random.default_rng(0).random((3, 140, 270))
    whole = mean_in_blocks(scores, 2.0, (3, 140, 270))
    np.testing.assert_array_equal(mean_in_blocks(scores, 2.0, (3, 97, 101)), whole)
    np.testing.assert_allclose(whole, convolved_mean(scores, 2.0), rtol=1e-12)


def test_a_missing_score_is_left_out_and_stays_missing():
    scores = np.array([1.0, np.nan, 3.0]).reshape(1, 1, 3)
    np.testing.assert_array_equal(mean_in_blocks(scores, 2.0, (1, 1, 3)), np.array([2.0, np.nan, 2.0]).reshape(1, 1, 3))
