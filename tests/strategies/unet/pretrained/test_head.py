"""The head is Fisher's discriminant; moving the clicks finds what they missed."""

import numpy as np
import pytest

from tomostream.strategies.unet.pretrained.head import discriminant, fitted, rejected_share, steps_within, unclicked_of


def test_without_shrinkage_it_is_the_textbook_formula():
    rng = np.random.default_rng(0)
    clicks, others = rng.normal(1, 1, (30, 4)), rng.normal(0, 2, (400, 4))
    unclicked = unclicked_of(others[:200], others[200:])
    weights, border = discriminant(clicks, unclicked, shrinkage=0.0, own_share=0.0)
    wanted = np.linalg.solve(np.cov(others.T, bias=True), clicks.mean(0) - others.mean(0))
    np.testing.assert_allclose(weights, wanted, rtol=1e-3, atol=1e-5)
    assert border == pytest.approx(float(weights @ (clicks.mean(0) + others.mean(0))) / 2)


def test_with_much_shrinkage_it_points_from_the_mean_of_the_others_to_that_of_the_clicks():
    rng = np.random.default_rng(1)
    clicks, others = rng.normal(1, 1, (10, 5)), rng.normal(0, 3, (300, 5))
    unclicked = unclicked_of(others[:100], others[100:])
    weights, _ = discriminant(clicks, unclicked, shrinkage=1e6, own_share=0.2)
    difference = clicks.mean(0) - unclicked.mean
    assert weights @ difference / np.linalg.norm(weights) / np.linalg.norm(difference) == pytest.approx(1, abs=1e-6)


def test_clicked_particles_among_the_peaks_do_not_turn_the_weights():
    rng = np.random.default_rng(2)
    others = rng.normal(0, 1, (5000, 3)) * [1, 2, 0.5]
    clicks = np.tile([1.0, 1.0, 1.0], (10, 1))
    directions = []
    for mixed in (others, np.concatenate([others, np.tile(clicks, (50, 1))])):
        weights, _ = discriminant(clicks, unclicked_of(np.empty((0, 3)), mixed), shrinkage=0.0, own_share=0.0)
        directions.append(weights / np.linalg.norm(weights))
    np.testing.assert_allclose(*directions, atol=1e-3)


def test_peaks_and_voxels_weigh_the_same_however_many_there_are():
    unclicked = unclicked_of(np.full((10, 1), 4.0), np.zeros((1000, 1)))
    assert unclicked.mean[0] == pytest.approx(2.0)
    assert unclicked.covariance[0, 0] == pytest.approx(4.0)


def test_clicks_move_to_where_the_particle_is():
    steps, middle = steps_within(6.0)
    rng = np.random.default_rng(3)
    around = rng.normal(0, 0.1, (12, len(steps), 2))
    true = rng.integers(0, len(steps), 12)
    around[np.arange(12), true, 0] += 5  # the particle's own feature
    around[:6, middle, 0] += 5 * (true[:6] != middle)  # half were clicked well, too
    unclicked = unclicked_of(np.empty((0, 2)), rng.normal(0, 1, (500, 2)))
    weights, border = fitted(around, middle, unclicked, shrinkage=0.1, own_share=0.0)
    assert (around[np.arange(12), true] @ weights > border).all()
    assert weights[0] > 5 * abs(weights[1])


@pytest.mark.parametrize("radius", [1.0, 4.0, 7.9])
def test_steps_stay_within_a_third_of_the_radius(radius):
    steps, middle = steps_within(radius)
    assert (steps[middle] == 0).all()
    assert np.linalg.norm(steps, axis=1).max() <= max(1.0, 0.35 * radius)
    assert {tuple(step) for step in steps} == {tuple(-step) for step in steps}


def test_rejected_places_have_their_share_of_what_nobody_clicked():
    rng = np.random.default_rng(0)
    peaks, voxels = rng.normal(0, 1, (40, 3)), rng.normal(0, 1, (60, 3))
    rejected = rng.normal(5, 0.1, (20, 3))
    found = unclicked_of(peaks, voxels, rejected)
    plain = unclicked_of(peaks, voxels)
    share = rejected_share(20)
    assert share == pytest.approx(1 / 3)
    np.testing.assert_allclose(found.mean, (1 - share) * plain.mean + share * rejected.mean(axis=0))
    none = unclicked_of(peaks, voxels, np.empty((0, 3)))
    np.testing.assert_array_equal(none.mean, plain.mean)
    np.testing.assert_array_equal(none.covariance, plain.covariance)


def test_a_head_turns_away_from_rejected_look_alikes():
    """Look-alikes differ from the clicks in one feature only, and are too few among the peaks to be noticed."""
    rng = np.random.default_rng(1)
    background = rng.normal(0, 1, (400, 4))
    clicks = np.array([4.0, 4.0, 0.0, 0.0]) + rng.normal(0, 0.5, (10, 4))
    alike = np.array([4.0, 0.0, 0.0, 0.0]) + rng.normal(0, 0.5, (20, 4))
    plain, _ = discriminant(clicks, unclicked_of(background[:200], background[200:]), shrinkage=0.4, own_share=0.5)
    told, _ = discriminant(clicks, unclicked_of(background[:200], background[200:], alike), shrinkage=0.4, own_share=0.5)
    assert told[1] / told[0] > 1.3 * plain[1] / plain[0]  # the second feature tells them apart
