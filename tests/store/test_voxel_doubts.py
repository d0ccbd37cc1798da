"""What `inspect` tells of a volume before it hurts: each doubt is raised by what it is about, and not by a tomogram as it should be."""

import numpy as np
import pytest
from mrc_files import write_mrc
from scipy import ndimage
from store_files import write_store

from tomostream.store.preflight import inspect_file
from tomostream.store.voxel_doubts import shape_doubts


def tomogram(sign: float = -1.0) -> np.ndarray:
    """Noise, and balls of matter: dark ones, unless `sign` says otherwise."""
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(48, 96, 96))
    centres = np.zeros_like(volume)
    centres[tuple(rng.integers(0, volume.shape, (60, 3)).T)] = 1
    balls = ndimage.gaussian_filter(centres, 2.5)
    return (volume + sign * 6 * balls / balls.max()).astype(np.float32)


def told(tmp_path, volume: np.ndarray, kind: str = "mrc", levels: int = 1) -> str:
    if kind == "mrc":
        return " ".join(inspect_file(write_mrc(tmp_path / "t.mrc", volume)).warnings)
    return " ".join(
        inspect_file(
            write_store(tmp_path / "t.ome.zarr", volume, spacing=10.0, levels=levels, chunk=(16, 16, 16), shard=(48, 48, 48))
        ).warnings
    )


@pytest.mark.parametrize(("kind", "levels"), [("mrc", 1), ("store", 1), ("store", 3)])
def test_bright_matter_is_told_and_dark_is_not(tmp_path, kind, levels):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    assert told(tmp_path / "a", tomogram(), kind, levels) == ""
    assert "contrast may be inverted" in told(tmp_path / "b", tomogram(+1.0), kind, levels)


def test_noise_alone_tells_nothing(tmp_path):
    assert told(tmp_path, np.random.default_rng(0).normal(size=(48, 96, 96)).astype(np.float32)) == ""


@pytest.mark.parametrize("kind", ["mrc", "store"])
@pytest.mark.parametrize(("value", "words"), [(np.nan, "have no finite voxel"), (0.0, "have one value only"), (7.5, "have one value only")])
def test_empty_slabs_are_told_with_their_place(tmp_path, kind, value, words):
    volume = tomogram()
    volume[40:] = value
    found = told(tmp_path, volume, kind)
    assert f"8 of 48 sections (z 40 to 47) look empty: they {words}" in found


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((400, 120, 380), "thinnest along y"),
        ((400, 380, 120), "thinnest along x"),
        ((61, 3838, 3710), "tilt series"),
        ((120, 400, 380), None),
        ((300, 300, 300), None),
        ((100, 400, 90), None),
        ((9, 3, 9), None),
        ((400, 4000, 4000), None),
    ],
)
def test_a_shape_tells_which_way_a_volume_lies(shape, words):
    found = " ".join(shape_doubts(shape))
    assert (words in found) if words else found == ""


def test_the_tomograms_with_known_truth_raise_no_doubt(data_folder):
    for name in ("DEF_01", "VPP_04"):
        assert inspect_file(data_folder / "pombe_sim" / f"{name}.mrc").warnings == ()
