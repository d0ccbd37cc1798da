"""What spoils statistics spoils no picks: hot voxels, gold, padding, rims, and bright particles; and what lies on nothing is said to be nothing."""

import json

import mrcfile
import numpy as np
import pytest
from cli_runner import tomostream
from small_project import make_project

from tomostream.testing.small_project import SHAPE, make_volume

pytestmark = pytest.mark.slow


def hot(volume):
    """Two voxels of 10^6."""
    volume[3, 60, 2] = volume[36, 1, 50] = 1e6
    return volume


def gold(volume):
    """A bead, far darker than particles."""
    z, y, x = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    volume[(z - 20) ** 2 + (y - 60) ** 2 + (x - 50) ** 2 < 10] = -60
    return volume


def padded(volume):
    """Zeros beyond the specimen, whose mean is far from 0."""
    volume += 120
    volume[:, :, 50:] = 0
    return volume


def rim(volume):
    """A noisy, bright rim."""
    volume[:, :3] += 25
    return volume


def bright(volume):
    """The other contrast."""
    return -volume


def clean(volume):
    return volume


@pytest.mark.parametrize("strategy", ["average", "sphere"])
@pytest.mark.parametrize("spoil", [clean, hot, gold, padded, rim, bright], ids=lambda spoil: spoil.__name__)
def test_five_clicks_find_the_particles_all_the_same(tmp_path, spoil, strategy):
    path = make_project(tmp_path, objective={"name": strategy})
    for number, name in enumerate(("t1", "t2")):
        with mrcfile.open(tmp_path / f"{name}.mrc", "r+") as file:
            file.set_data(spoil(make_volume(number)[0]).astype(np.float32))
    done = tomostream(
        "run",
        path,
        "--stage",
        "convert",
        "--stage",
        "stats",
        "--stage",
        "train",
        "--stage",
        "predict",
        "--stage",
        "pick",
        "--stage",
        "evaluate",
    )
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "project" / "evaluation.json").read_text())["pooled"]["f1"] >= 0.9
