"""Arrays and pictures in a page: they come back as they were, and keep to the bytes that they may have."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tomostream.report.packed import packed, packed_positions, webp_within


@given(st.lists(st.tuples(st.floats(0, 39), st.floats(0, 1999), st.floats(0, 4095)), max_size=20))
def test_positions_come_back_to_a_fraction_of_a_voxel(places):
    shape = (40, 2000, 4096)
    zyx = np.array(places).reshape(-1, 3)
    shares = np.frombuffer(base64.b64decode(packed_positions(zyx, shape)), dtype="<u2").reshape(-1, 3)[:, ::-1]
    np.testing.assert_allclose(shares / 65535 * np.array(shape) - 0.5, zyx, atol=0.04)


def test_numbers_are_little_endian():
    assert base64.b64decode(packed(np.array([1.0]), "<f4")) == b"\x00\x00\x80\x3f"


@settings(max_examples=15, deadline=None)
@given(st.integers(6_000, 200_000), st.integers(1, 4))
def test_pictures_keep_to_their_bytes_and_look_like_what_they_are_of(most, number):
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, size=(number, 24, 24), dtype=np.uint8)
    pictures = [np.kron(one, np.ones((10, 10), dtype=np.uint8)) for one in coarse]
    made, shrink = webp_within(pictures, most)
    smallest = max(Image.open(io.BytesIO(made[0])).size) * 0.8 < 96
    assert sum(map(len, made)) <= most or smallest
    for one, picture in zip(made, pictures, strict=True):
        seen = Image.open(io.BytesIO(one)).convert("L")
        assert seen.size == (round(240 * shrink), round(240 * shrink))
        if shrink > 0.7:
            again = np.asarray(seen.resize((240, 240)), dtype=float)
            assert np.corrcoef(again.ravel(), picture.ravel().astype(float))[0, 1] > 0.9


def test_more_bytes_give_a_better_picture():
    noise = np.random.default_rng(1).integers(1, 256, size=(300, 300), dtype=np.uint8)

    def error(most: int) -> float:
        [made], shrink = webp_within([noise], most)
        return float("inf") if shrink < 1 else float(np.abs(np.asarray(Image.open(io.BytesIO(made)).convert("L"), float) - noise).mean())

    assert error(1_000_000) < error(20_000)


@pytest.mark.parametrize("grey", [0, 1, 255])
def test_equal_pictures_give_equal_bytes(grey):
    pictures = [np.full((50, 60), grey, dtype=np.uint8)] * 3
    assert webp_within(pictures, 10_000) == webp_within(pictures, 10_000)
