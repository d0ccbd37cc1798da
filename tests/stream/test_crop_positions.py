import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tomostream.stream.crop_positions import ball_range, coverage, uniform_range


def enumerated(low: int, high: int, size: int, crop: int) -> np.ndarray:
    """Coverage by trying every corner."""
    covered = np.zeros(size)
    for k in range(low, high + 1):
        start = min(max(k, 0), size - crop)
        covered[start : start + crop] += 1
    return covered / (high - low + 1)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(-20, 60), st.integers(0, 30))
def test_coverage_equals_the_enumeration_of_all_corners(crop, more, low, length):
    size = crop + more - 1
    found = coverage(np.array([low]), np.array([low + length]), np.arange(size), size=size, crop=crop)[0]
    np.testing.assert_array_equal(found, enumerated(low, low + length, size, crop))


@given(st.integers(1, 30), st.integers(1, 60))
def test_a_voxel_on_a_face_is_covered_at_least_half_as_often_as_an_inner_one(crop, more):
    size = crop + more - 1
    low, high = uniform_range(size, crop)
    covered = coverage(np.array([low]), np.array([high]), np.arange(size), size=size, crop=crop)[0]
    assert covered.sum() * (1 + 1e-12) >= crop  # each crop covers `crop` voxels
    if size >= 3 * crop:
        assert covered[0] >= covered[size // 2] / 2
        assert covered.max() <= 1.5 * covered[size // 2] + 1e-12


@given(
    st.tuples(*[st.floats(-3, 43)] * 3),
    st.floats(0.3, 12),
    st.tuples(*[st.integers(1, 40)] * 3),
)
def test_crops_around_a_point_hold_its_ball_as_far_as_the_volume_allows(centre, radius, crop):
    size = 40
    low, high = ball_range(np.array([centre]), np.array([radius]), shape=(size,) * 3, crop=crop)
    for i in range(3):
        lo, hi, c = int(low[0, i]), int(high[0, i]), crop[i]
        assert 0 <= lo <= hi <= size - c
        voxels = [v for v in range(size) if abs(v - centre[i]) <= radius]
        allowed = [k for k in range(size - c + 1) if all(k <= v < k + c for v in voxels)]
        fits = np.ceil(centre[i] + radius) - np.floor(centre[i] - radius) < c
        if fits and voxels:
            # the range asks for the real interval's ends, at most a voxel more than the voxels in it
            assert set(range(lo, hi + 1)) <= set(allowed)
            assert len(allowed) - (hi - lo + 1) <= 2
        elif 0 <= np.floor(centre[i] + 0.5) < size:
            nearest = int(np.floor(centre[i] + 0.5))
            assert all(k <= nearest < k + c for k in (lo, hi))
