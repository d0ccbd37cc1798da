"""Picks one by one: which are shown, and that each picture is of its place."""

import base64
import io

import mrcfile
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tomostream as ts
from tomostream.report.gallery import EACH, gallery_pictures, shown_ranks


@given(st.integers(0, 5000))
def test_best_worst_and_some_between_are_shown_each_once(count):
    ranks = shown_ranks(count)
    assert len(set(ranks.tolist())) == len(ranks) <= 3 * EACH
    assert set(range(min(EACH, count))) | set(range(max(0, count - EACH), count)) <= set(ranks.tolist())
    assert ((ranks >= 0) & (ranks < count)).all()
    if count > 100:
        assert np.diff(ranks).max() < count / EACH  # no part of the scores is without a picture


def test_pictures_are_of_their_places_also_at_the_border(tmp_path):
    volume = np.random.default_rng(0).normal(size=(40, 80, 80)).astype(np.float32)
    places = np.array([[20.0, 40, 40], [2, 3, 78], [36, 70, 6]])
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in volume.shape), indexing="ij"), axis=-1)
    for place in places:
        volume[((grid - place) ** 2).sum(axis=-1) < 36] -= 6
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(volume)
        file.voxel_size = 10.0
    ts.convert(tmp_path / "a.mrc", tmp_path)
    found = gallery_pictures(ts.open(tmp_path / "a.ome.zarr"), places, 6.0, 100_000)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["sheet"]))).convert("L"), dtype=float)
    edge = found["edge"]
    assert sheet.shape == (3 * edge, 2 * edge)
    for number in range(3):
        for half in range(2):
            one = sheet[number * edge : (number + 1) * edge, half * edge : (half + 1) * edge]
            middle = edge // 2
            assert one[middle - 2 : middle + 3, middle - 2 : middle + 3].mean() < 100  # dark
    assert found["radius"] * edge == 6.0
    assert sheet[0 + edge : 0 + edge + 3, edge // 2].max() < 12  # beyond the volume nothing is known
