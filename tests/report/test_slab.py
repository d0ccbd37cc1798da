"""Which slices are shown, and what is read for them: planes a few at a time, never a whole volume."""

import base64
import io
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tomostream as ts
from tomostream.geometry import Box
from tomostream.report import slab
from tomostream.report.slab import MOST_SLICES, plan_slab, shown_level, slab_pictures
from tomostream.tomogram import Tomogram


@given(
    depth=st.integers(1, 600),
    level=st.integers(0, 3),
    radius=st.floats(0.5, 60),
    picks=st.lists(st.floats(-1, 5000), max_size=20),
)
def test_slices_lie_in_the_volume_apart_by_at_most_a_radius(depth, level, radius, picks):
    plan = plan_slab(depth, level, np.array(picks), radius)
    assert 1 <= len(plan.planes) <= MOST_SLICES
    assert all(0 <= first < last <= depth for first, last in plan.planes)
    steps = np.diff(plan.z)
    assert (steps > 0).all()
    assert (steps <= max(radius, 2**level) + 2**level).all()


def test_a_deep_volume_is_shown_where_most_picks_are():
    plan = plan_slab(1000, 0, np.array([100.0, 800.0, 805.0, 810.0]), 8.0)
    assert plan.z[0] < 800
    assert plan.z[-1] > 810


def test_the_slab_covers_a_thin_volume():
    plan = plan_slab(112, 0, np.empty(0), 10.0)
    assert plan.z[0] < 10
    assert plan.z[-1] > 101


@pytest.fixture
def tomogram(tmp_path: Path) -> Tomogram:
    """96 x 128 x 128 noise that brightens with z."""
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(96, 128, 128)).astype(np.float32) + np.linspace(-2, 2, 96, dtype=np.float32)[:, None, None]
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(volume)
        file.voxel_size = 10.0
    ts.convert(tmp_path / "a.mrc", tmp_path)
    return ts.open(tmp_path / "a.ome.zarr")


def grey_of(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("L"), dtype=float)


def test_slices_show_the_planes_and_few_are_read_at_once(tomogram, monkeypatch):
    monkeypatch.setattr(slab, "PIECE_VOX", 4 * 128 * 128)
    sizes: list[int] = []
    read = Tomogram.read

    def spy(self: Tomogram, box: Box) -> np.ndarray:
        sizes.append(box.size)
        return read(self, box)

    monkeypatch.setattr(Tomogram, "read", spy)
    plan = plan_slab(96, 0, np.empty(0), 8.0)
    found = slab_pictures(tomogram, plan, 8.0, 300_000)
    assert max(sizes) <= 4 * 128 * 128
    assert len(found["slices"]) == len(found["z"]) == len(plan.planes)
    means = [grey_of(one).mean() for one in found["slices"]]
    assert np.corrcoef(means, found["z"])[0, 1] > 0.95  # brighter with z
    assert (found["rows"], found["columns"]) == grey_of(found["slices"][0]).shape == (128, 128)


def test_a_wide_volume_is_shown_from_a_coarser_level(tomogram, monkeypatch):
    monkeypatch.setattr(slab, "WIDEST_VOX", 40)
    assert shown_level(tomogram) == 2  # 32 voxels wide
    plan = plan_slab(24, 2, np.empty(0), 8.0)
    found = slab_pictures(tomogram, plan, 8.0, 300_000)
    assert grey_of(found["slices"][0]).shape == (32, 32)
    assert found["thick"] == 4
