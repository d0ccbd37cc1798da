from pathlib import Path

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tomostream.errors import InputError
from tomostream.store.casting import plan_casting

PATH = Path("tomo.mrc")


def cast(volume, dtype, piece=7):
    flat = volume.ravel()
    casting = plan_casting(dtype, volume.dtype, (flat[i : i + piece] for i in range(0, flat.size, piece)), PATH)
    return casting, casting.apply(volume)


@given(volume=hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(-1e4, 1e4, width=32)))
@examples(50)
def test_int8_is_the_rounded_standardised_volume(volume):
    casting, stored = cast(volume, "int8")
    wide = volume.astype(np.float64)
    mean, std = wide.mean(), wide.std() or 1.0
    assert casting.offset == pytest.approx(mean, rel=1e-9, abs=1e-9 * std)
    assert stored.dtype == np.int8
    assert np.abs(stored - np.clip(32 * (wide - mean) / std, -127, 127)).max() <= 0.5 + 1e-6
    inside = np.abs(stored) < 127
    assert np.abs(stored * casting.scale + casting.offset - wide)[inside].max(initial=0) <= casting.scale * 0.5 + 1e-6 * std


def test_int8_of_a_known_volume_equals_the_formula_exactly():
    volume = np.random.default_rng(0).normal(100, 7, (9, 10, 11)).astype(np.float32)
    volume[0, 0, 0], volume[0, 0, 1] = 1e5, -1e5
    casting, stored = cast(volume, "int8", 64)
    wide = volume.astype(np.float64)
    expected = np.clip(np.rint(32 * (wide - casting.offset) / (32 * casting.scale)), -127, 127)
    np.testing.assert_array_equal(stored, expected)
    assert (stored[0, 0, 0], stored[0, 0, 1]) == (127, -127)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float16])
def test_constant_volume_reads_back_as_its_value(dtype):
    casting, stored = cast(np.full((2, 3, 4), 5, dtype), "int8")
    assert not stored.any()
    assert casting.offset == 5.0


def test_int8_refuses_voxels_that_are_not_finite_and_counts_them():
    volume = np.zeros((2, 3, 4), np.float32)
    volume[0, 0, :3] = np.nan, np.inf, -np.inf
    with pytest.raises(InputError, match=r"3 of 24 voxels are not finite.*float32"):
        cast(volume, "int8")


@pytest.mark.parametrize("value", [65520.0, -65520.0, 1e30])
def test_float16_refuses_what_would_become_infinite(value):
    volume = np.zeros((2, 3, 4), np.float32)
    volume[1, 1, 1] = value
    with pytest.raises(InputError, match=r"float16 ends at 65504"):
        cast(volume, "float16")


def test_float16_keeps_the_largest_that_fits_and_what_is_not_finite():
    volume = np.array([65519.0, -65519.0, np.nan, np.inf, 0.1, 1e-9], np.float32).reshape(1, 2, 3)
    _, stored = cast(volume, "float16")
    np.testing.assert_array_equal(stored.ravel(), np.array([65504, -65504, np.nan, np.inf, 0.1, 0], np.float16))


def test_float16_refuses_large_unsigned_integers():
    with pytest.raises(InputError, match="65535"):
        cast(np.full((1, 1, 2), 65535, np.uint16), "float16")


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.float16, np.float32])
def test_float32_and_keep_are_exact(dtype):
    volume = np.arange(24).reshape(2, 3, 4).astype(dtype)
    casting, stored = cast(volume, "keep")
    assert stored is volume
    assert casting.scale is None
    np.testing.assert_array_equal(cast(volume, "float32")[1], volume.astype(np.float32))


def test_keep_and_float32_need_no_pass_over_the_file():
    def never():
        raise AssertionError("read")
        yield

    for dtype in ("keep", "float32"):
        plan_casting(dtype, np.dtype(np.float32), never(), PATH)
    plan_casting("float16", np.dtype(np.int16), never(), PATH)


def test_unknown_type_is_refused():
    with pytest.raises(InputError, match=r"float64.*keep, float32, float16, int8"):
        cast(np.zeros((1, 1, 1), np.float32), "float64")
