"""The voxels around rejected places are counted as they are painted, and their crops come out of the uniform ones."""

from dataclasses import replace

import numpy as np
import pytest
from store_files import noise, write_store

from tomostream import defaults
from tomostream.config import load_configuration
from tomostream.geometry import Box
from tomostream.masks import mask_of_box
from tomostream.strategies.network_training import _with_rejected
from tomostream.strategies.training_set import Labelled
from tomostream.strategies.unet.priors import measure_negatives
from tomostream.testing.small_project import make_project
from tomostream.tomogram import open_tomogram

SHAPES = [(20, 24, 28), (16, 16, 16)]


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    points, places = ([[rng.uniform(0, 15, (count, 3))] for count in counts] for counts in ((3, 2), (4, 1)))
    places[0][0][0] = points[0][0][0] + 1  # overlaps a label
    for name, shape in zip("ab", SHAPES, strict=True):
        write_store(tmp_path / f"{name}.ome.zarr", noise(*shape), spacing=10.0, name=name)
    return Labelled([open_tomogram(tmp_path / f"{name}.ome.zarr") for name in "ab"], points, places)


def test_the_fraction_is_that_of_the_painted_voxels(tmp_path, data):
    radius = 3.0
    settings = load_configuration(make_project(tmp_path / "project", objective={"name": "pn", "rejected_weight": 0.5})).learning
    painted = 0
    for shape, points, places in zip(SHAPES, data.points, data.rejected, strict=True):
        whole = Box((0, 0, 0), shape)
        masks = [
            mask_of_box(whole, at[0], radius=r, shape="sphere", volume=shape).astype(bool) for at, r in ((points, radius), (places, radius))
        ]
        painted += np.count_nonzero(masks[1] & ~masks[0])
    (found,) = measure_negatives(settings, data, [radius])
    assert found.fraction * sum(np.prod(shape) for shape in SHAPES) == pytest.approx(painted)
    assert (found.per_click, found.weight) == (5 / 5, 0.5)
    assert measure_negatives(settings, replace(data, rejected=None), [radius]) is None


@pytest.mark.parametrize(("fraction", "uniform"), [(0.5, 0.25), (0.2, 0.4), (1.0, 0.0), (0.0, 0.5)])
def test_as_many_crops_as_before_are_drawn_around_clicks(data, fraction, uniform):
    drawn = _with_rejected(data, data.rejected, [2.5], fraction)
    share = drawn["rejected"].share
    assert drawn["labelled_fraction"] * (1 - share) == pytest.approx(fraction)
    assert 1 - drawn["labelled_fraction"] == pytest.approx(uniform)
    assert defaults.REJECTED_CROPS == 0.5
