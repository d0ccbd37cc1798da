"""A ball or a shell, dark or bright: the clicks choose, and the dark ball stays unless another is clearly better."""

import numpy as np
import pytest
from store_files import write_store

from tomostream.normalisation import Normalisation
from tomostream.strategies.matched_filter.kernels import profile_target
from tomostream.strategies.matched_filter.scale import Scale, measure_scales
from tomostream.strategies.sphere.shapes import SHAPES, Shape, chosen
from tomostream.testing.small_project import SHAPE
from tomostream.tomogram import open_tomogram


def test_a_ball_is_full_and_a_shell_hollow():
    ball, shell = Shape(1.0, False).profile(6.0, 10), Shape(0.25, True).profile(6.0, 10)
    np.testing.assert_allclose(ball, [-1, -1, -1, -1, -1, -1, -0.5, 0, 0, 0])
    np.testing.assert_allclose(shell, [0, 0, 0, 0, 0, 1, 0.5, 0, 0, 0])


@pytest.mark.parametrize("best", range(len(SHAPES)))
def test_the_shape_whose_clicks_stand_out_most_is_chosen(best):
    scales = [Scale(clicks=0.3, background=0.2)] * len(SHAPES)
    scales[best] = Scale(clicks=0.5, background=0.2)
    assert chosen(scales) == SHAPES[best]
    scales[best] = Scale(clicks=0.34, background=0.2)
    assert chosen(scales) == SHAPES[0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_clicks_on_balls_and_shells_choose_their_own_kind(shape, tmp_path):
    rng = np.random.default_rng(0)
    volume = rng.normal(0, 0.5, SHAPE).astype(np.float32)
    centres = np.stack(np.meshgrid([10, 29], [12, 32, 52], [14, 42], indexing="ij"), axis=-1).reshape(-1, 3)
    z, y, x = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    for cz, cy, cx in centres:
        distance = np.sqrt((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2)
        volume += 2 * np.interp(distance, np.arange(20), shape.profile(7.0, 20)).astype(np.float32)
    points = centres[:6] + rng.uniform(-1, 1, (6, 3))
    tomogram = open_tomogram(write_store(tmp_path / "t.ome.zarr", volume)).with_normalisation(
        Normalisation(0.0, 1.0, 0.0, 1.0, 1, 1, 100.0)
    )
    scales = [
        measure_scales([profile_target(one.profile(7.0, 12), 9.8)], [tomogram], [[points]], [7.0], floor=0.6, seed=0)[0] for one in SHAPES
    ]
    assert chosen(scales) == shape
