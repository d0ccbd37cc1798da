"""Numbers that nobody gives: the lower of two estimates, and never more than fits."""

import dataclasses
import math

import numpy as np
import pytest
from store_files import noise, write_store

from tomostream.config import load_configuration
from tomostream.progress import Progress
from tomostream.strategies.training_set import Labelled, Training
from tomostream.strategies.unet import expected_number
from tomostream.strategies.unet.expected_number import with_estimates
from tomostream.testing.small_project import RADIUS_VOX, SHAPE, SPACING, make_project
from tomostream.tomogram import open_tomogram


@pytest.fixture
def training(tmp_path):
    settings = load_configuration(make_project(tmp_path)).learning
    settings = dataclasses.replace(settings, species=tuple(one.model_copy(update={"expected": None}) for one in settings.species))
    write_store(tmp_path / "t1.ome.zarr", noise(*SHAPE), spacing=SPACING, name="t1")
    labelled = Labelled([open_tomogram(tmp_path / "t1.ome.zarr")], [[np.ones((5, 3))]])
    return Training(settings, labelled, None, 0, SPACING, {}, 0)


@pytest.mark.parametrize(
    ("ranks", "peaks", "wanted"),
    [
        (30.0, 90.0, 30),  # look-alikes among the peaks
        (34_700.0, 90.0, 90),  # clicks that the filter doesn't find
        (None, 40.0, 40),  # too few clicks to leave out
        (1e6, 1e6, None),  # neither: what fits
        (2.0, 2.0, 6),  # one more than was clicked, at least
    ],
)
def test_the_lower_estimate_is_taken(monkeypatch, training, ranks, peaks, wanted):
    voxels = math.prod(SHAPE)
    monkeypatch.setattr(expected_number, "_density", lambda *_: peaks / voxels)
    (found,) = with_estimates(training, [ranks], Progress())
    full = round(0.5 * voxels / (4 / 3 * math.pi * RADIUS_VOX**3))
    assert found.expected == {"t1": full if wanted is None else wanted}
