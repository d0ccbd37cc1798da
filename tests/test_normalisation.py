"""Raw voxels become network input by standardising, clipping and standardising again, voxel by voxel."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.graph.moments import statistics_of
from tomostream.normalisation import Normalisation


def by_definition(array, clip_sigma=3.0):
    """Standardise, clip, standardise again, in float64 on the whole volume."""
    finite = np.isfinite(array)
    values = array[finite].astype(np.float64)
    clipped = np.clip((values - values.mean()) / values.std(), -clip_sigma, clip_sigma)
    result = np.zeros(array.shape)
    result[finite] = (clipped - clipped.mean()) / clipped.std()
    return result


def volume_of(dtype, *, offset=0.0):
    array = np.random.default_rng(0).normal(offset + 40, 15, (12, 20, 24))
    return array.astype(dtype)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", ">i2", "i4", "f2", "f4", ">f4", "f8"])
def test_result_is_the_definition(dtype):
    array = volume_of(dtype)
    found = statistics_of(array, clip_sigma=3.0).apply(array)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_definition(array), atol=5e-7, rtol=0)


@pytest.mark.parametrize(("dtype", "offset"), [("f4", 1e5), ("f8", 1e9), ("i4", 1e9)])
def test_large_offset_does_not_cancel(dtype, offset):
    array = volume_of(dtype, offset=offset)
    np.testing.assert_allclose(statistics_of(array, clip_sigma=3.0).apply(array), by_definition(array), atol=1e-6, rtol=0)


def test_voxels_that_are_not_finite_become_the_mean():
    array = volume_of("f4")
    array[0, 0, 0], array[3, 4, 5], array[7, 7, 7] = np.nan, np.inf, -np.inf
    found = statistics_of(array, clip_sigma=3.0).apply(array)
    assert [found[0, 0, 0], found[3, 4, 5], found[7, 7, 7]] == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(found, by_definition(array), atol=5e-7, rtol=0)


def test_values_end_at_the_clip():
    array = volume_of("f4")
    array[0, 0, :2] = 1e6, -1e6
    normalisation = statistics_of(array, clip_sigma=2.0)
    found = normalisation.apply(array)
    assert (found.min(), found.max()) == (np.float32(normalisation.low), np.float32(normalisation.high))


@given(st.tuples(*[st.integers(0, 11)] * 3), st.tuples(*[st.integers(1, 12)] * 3), st.sampled_from(["i2", "f4", "f8"]))
def test_any_part_is_bit_identical_to_the_part_of_the_whole(start, size, dtype):
    array = volume_of(dtype)
    normalisation = Normalisation(39.7, 14.9, 0.01, 0.98, array.size, array.size)
    part = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    np.testing.assert_array_equal(normalisation.apply(array[part]), normalisation.apply(array)[part])


def test_affine_step_and_clip_are_the_same_as_apply():
    array = volume_of("f4")
    n = statistics_of(array, clip_sigma=3.0)
    affine = np.clip(array * n.scale + n.offset, n.low, n.high)
    np.testing.assert_allclose(n.apply(array), affine, atol=2e-6, rtol=0)


def test_source_is_left_alone():
    array = volume_of("f4")
    before = array.copy()
    statistics_of(array, clip_sigma=3.0).apply(array)
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("dtype", ["i2", "f4", ">f4"])
def test_into_an_array_of_any_layout_and_in_the_sources_place_it_is_the_same_also_where_voxels_are_not_finite(dtype):
    array = volume_of(dtype)
    if array.dtype.kind == "f":
        array[3, 4, 5], array[7, 8, 9] = np.nan, np.inf
    n = statistics_of(array, clip_sigma=3.0)
    wanted = n.apply(array)
    wide = np.full((array.shape[0], array.shape[1] + 5, array.shape[2] + 3), 7, dtype=np.float32)
    part = wide[:, 2:-3, 1:-2]
    assert n.apply(array, out=part) is part
    np.testing.assert_array_equal(part, wanted)
    part[...] = 7
    assert (wide == 7).all()
    if array.dtype == np.float32:
        np.testing.assert_array_equal(n.apply(array, out=array), wanted)


def test_constant_volume_is_refused_with_its_value():
    with pytest.raises(InputError, match=r"constant \(mean 7, standard deviation 0\)"):
        statistics_of(np.full((3, 4, 5), 7, dtype=np.int16), clip_sigma=3.0).apply(np.full((3, 4, 5), 7, dtype=np.int16))


def test_json_reads_back_exactly():
    normalisation = statistics_of(volume_of("f4"), clip_sigma=3.0)
    assert Normalisation.from_json(json.loads(json.dumps(normalisation.to_json()))) == normalisation


def test_whole_numbers_of_other_writers_of_json_are_floats():
    counts = {"finite": 8, "total": 8}
    found = Normalisation.from_json({"mean": 0, "std": 1, "clipped_mean": 0, "clipped_std": 1, "clip_sigma": 3, **counts})
    assert found == Normalisation(mean=0.0, std=1.0, clipped_mean=0.0, clipped_std=1.0, clip_sigma=3.0, **counts)
    assert [type(value) for value in (found.mean, found.clip_sigma, found.finite)] == [float, float, int]
