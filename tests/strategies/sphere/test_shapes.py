"""A ball or a shell, dark or bright: the clicks choose, and the dark ball stays unless another is clearly better."""

import numpy as np
import pytest
from store_files import write_store

from tomostream.normalisation import Normalisation
from tomostream.strategies.matched_filter.kernels import profile_target
from tomostream.strategies.sphere.shapes import SHAPES, Shape, Trial, chosen, trial_of
from tomostream.strategies.sphere.training import target_trial
from tomostream.strategies.training_set import Labelled
from tomostream.testing.small_project import SHAPE
from tomostream.tomogram import open_tomogram


def test_a_ball_is_full_and_a_shell_hollow():
    ball, shell = Shape(1.0, False).profile(6.0, 10), Shape(0.25, True).profile(6.0, 10)
    np.testing.assert_allclose(ball, [-1, -1, -1, -1, -1, -1, -0.5, 0, 0, 0])
    np.testing.assert_allclose(shell, [0, 0, 0, 0, 0, 1, 0.5, 0, 0, 0])


@pytest.mark.parametrize("best", range(len(SHAPES)))
def test_the_shape_that_fits_the_clicks_best_is_chosen_of_those_that_cost_little(best):
    trials = [Trial(cost=3.0, correlation=0.4)] * len(SHAPES)
    trials[best] = Trial(cost=3.1, correlation=0.5)
    assert chosen(trials) == SHAPES[best]
    trials[best] = Trial(cost=3.6, correlation=0.5)
    assert best == 0 or chosen(trials) == SHAPES[0]
    trials[best] = Trial(cost=3.0, correlation=0.41)
    assert chosen(trials) == SHAPES[0]
    trials[best] = Trial(cost=2.4, correlation=0.3)
    assert chosen(trials) == SHAPES[best]


def test_a_shape_costs_the_logarithm_of_the_ranks_of_its_clicks():
    found = trial_of(np.array([0.9, 0.8]), np.array([0.1, 0.2]))
    assert (found.cost, found.correlation) == (0.0, pytest.approx(0.85))
    assert trial_of(np.array([0.15, 0.05]), np.array([0.2, 0.1])).cost == pytest.approx((np.log(2) + np.log(3)) / 2)
    assert trial_of(np.empty(0), np.array([0.1])) == Trial(0.0, 0.0)


@pytest.mark.slow
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
    labelled = Labelled([tomogram], [[points]])
    trials = [target_trial(profile_target(one.profile(7.0, 12), 9.8), labelled, 0, radius=7.0, seed=0) for one in SHAPES]
    assert chosen(trials) == shape
