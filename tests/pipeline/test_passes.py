"""How often are voxels read and written, from an MRC file to picks?  Bytes through the system's calls, counted by the kernel (`/proc/self/io`)."""

import math
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from cli_runner import tomostream

from tomostream import __version__
from tomostream.store import identity
from tomostream.strategies.unet.model import UNetSettings, save_model
from tomostream.strategies.unet.network import ResidualUNet

SHAPE = (96, 192, 192)
LEVELS = 8 / 7  # voxels of all levels over those of level 0
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")]


def passed():
    """Bytes that this process has read and written so far, by any call."""
    values = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(values["rchar"]), int(values["wchar"])


def counted(*arguments):
    before = passed()
    done = tomostream(*arguments)
    assert done.code == 0, done.err
    return tuple(after - earlier for after, earlier in zip(passed(), before, strict=True))


def make(folder, shape, dtype):
    folder.mkdir()
    noise = np.random.default_rng(0).normal(size=shape)
    with mrcfile.new(folder / "t.mrc") as file:
        file.set_data((20 * noise).astype(dtype))
        file.voxel_size = 10.0
    (folder / "model").mkdir()
    settings = UNetSettings(
        channels=(2, 4), species=("p",), radius_ang=(40.0,), level=1, spacing=10.0, clip_sigma=3.0, label_shape="sphere", objective={"name": "nnpu"},
        precision="float32", trained_on=(), version=__version__, batch_statistics="training",
    )  # fmt: skip
    save_model(folder / "model", ResidualUNet((2, 4), 1, seed=0), settings)


def path_to_picks(folder, *options):
    """Bytes read and written by each command from the MRC file to picks."""
    scores = folder / "scores" / "t.ome.zarr"
    pick = ("pick", scores, "--radius", "8vox")
    return {
        "convert": counted("convert", folder / "t.mrc", "-o", folder / "tomograms"),
        "predict": counted("predict", folder / "tomograms" / "t.ome.zarr", "--model", folder / "model", "-o", folder / "scores", *options),
        "by threshold": counted(*pick, "--threshold", "0.99", "-o", folder / "above"),
        "by count": counted(*pick, "--count", "20", "-o", folder / "best"),
    }


@pytest.mark.parametrize(("dtype", "grid"), [(np.int8, "network"), (np.float32, "tomogram")])
def test_each_stage_passes_over_the_voxels_as_often_as_the_page_says(tmp_path, monkeypatch, dtype, grid):
    for name, value in (("WHOLE_BYTES", 0), ("FIRST_BYTES", 2**10), ("_PIECES", 2)):  # so small a file is hashed as a large one is
        monkeypatch.setattr(identity, name, value)
    make(tmp_path / "warm", (16, 32, 32), dtype)  # what is imported when it is first used
    path_to_picks(tmp_path / "warm", "--grid", grid)
    make(tmp_path / "t", SHAPE, dtype)
    item = np.dtype(dtype).itemsize
    scores = 4 if grid == "tomogram" else 4 / 8  # bytes of the map for each voxel of the tomogram
    # statistics of integers were gathered by convert; floats take two passes, then the network's
    passes_of_level_1 = 1 if dtype is np.int8 else 3
    expected = {
        "convert": (item, LEVELS * item),
        "predict": (passes_of_level_1 * item / 8, scores),
        "by threshold": (scores, 0),
        "by count": (2 * scores, 0),
    }
    found = {name: np.array(both) / math.prod(SHAPE) for name, both in path_to_picks(tmp_path / "t", "--grid", grid).items()}
    for name, both in expected.items():
        np.testing.assert_allclose(found[name], both, rtol=0.06, atol=0.06, err_msg=name)
