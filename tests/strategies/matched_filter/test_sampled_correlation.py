"""Correlations of parts of a volume are those of the whole, and the peaks of a box are as many as it could hold particles."""

import numpy as np
import pytest

from tomostream.geometry import Box
from tomostream.strategies.matched_filter.correlation import CorrelationScorer
from tomostream.strategies.matched_filter.kernels import profile_target
from tomostream.strategies.matched_filter.profile import SHIFT
from tomostream.strategies.matched_filter.sampled_correlation import correlation_of_click, correlations_in, peaks_of
from tomostream.strategies.sample_boxes import random_cube, random_cubes

SHAPE = (24, 40, 36)
RADIUS = 4.0
VOLUME = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
SCORER = CorrelationScorer([profile_target(np.linspace(-1, 0, 7), 5.0)], floor=0.6, threads=1)


def read(box):
    return VOLUME[box.slices]


WHOLE = correlations_in(Box.whole(SHAPE), SCORER, read, SHAPE)


def test_a_box_has_the_correlations_of_the_whole():
    box = Box((3, 20, 0), (15, 40, 9))
    np.testing.assert_allclose(correlations_in(box, SCORER, read, SHAPE), WHOLE[box.slices], atol=1e-5)


@pytest.mark.parametrize("click", [(12.4, 20.0, 17.7), (0.0, 39.2, -0.4)])
def test_a_click_has_the_highest_correlation_of_its_surroundings(click):
    reach = round(SHIFT * RADIUS)
    near = WHOLE[tuple(slice(max(0, round(c) - reach), round(c) + reach + 1) for c in click)]
    assert correlation_of_click(np.array(click), RADIUS, SCORER, read, SHAPE) == pytest.approx(float(near.max()), abs=1e-5)


def test_peaks_are_apart_and_fill_two_fifths_of_their_box_at_most():
    picks = peaks_of(WHOLE, RADIUS)
    assert len(picks) == round(0.4 * WHOLE.size / (4 / 3 * np.pi * RADIUS**3))
    assert picks.score[0] == WHOLE.max()
    apart = np.linalg.norm((picks.index_zyx[:, None] - picks.index_zyx[None]).astype(float), axis=2)
    assert apart[np.triu_indices(len(picks), 1)].min() > 0.8 * RADIUS


@pytest.mark.parametrize(("edge", "most", "count"), [(16, 5, 5), (16, 99, 9), (64, 5, 1)])
def test_random_cubes_lie_inside_and_are_no_more_than_fill_the_volume(edge, most, count):
    boxes = random_cubes(SHAPE, edge, most, np.random.default_rng(1))
    assert len(boxes) == count
    assert boxes[0] == random_cube(SHAPE, edge, np.random.default_rng(1))
    for box in boxes:
        assert box.clipped(Box.whole(SHAPE)) == box
        assert box.shape == tuple(min(edge, n) for n in SHAPE)
