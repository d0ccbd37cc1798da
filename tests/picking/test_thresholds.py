from __future__ import annotations

import numpy as np
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.geometry import BlockGrid, Box
from tomostream.picking.thresholds import NOTHING, Survey, survey, thresholds_to_try


def survey_in_blocks(scores: np.ndarray, block: tuple[int, int, int], *, radius: float, count: int) -> Survey:
    seen = NOTHING
    for core in BlockGrid(scores.shape, block).cores():
        seen = seen.merged(survey(scores[core.slices], radius=radius, count=count), count)
    return seen


def test_separate_peaks_are_counted_once_each():
    scores = np.zeros((40, 40, 40), dtype=np.float32)
    for height, at in enumerate([(5, 5, 5), (5, 30, 5), (30, 5, 30), (30, 30, 30)], start=1):
        scores[Box(at, at).expanded(2).slices] = height
    seen = survey(scores, radius=8.0, count=4)
    assert seen.peaks[:4].tolist() == [4, 3, 2, 1]


@examples(40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.tuples(*[st.integers(3, 9)] * 3))
def test_the_best_cells_of_blocks_are_those_of_their_voxels(seed, count, block):
    scores = np.random.default_rng(seed).standard_normal((7, 8, 9))
    # a radius below sqrt(3): cells are single voxels
    seen = survey_in_blocks(scores, block, radius=1.0, count=count)
    np.testing.assert_array_equal(seen.cells, -np.sort(-scores.ravel())[: 64 * count])


def test_missing_scores_are_no_cells():
    seen = survey(np.full((4, 4, 4), np.nan), radius=2.0, count=1)
    assert len(seen.peaks) == len(seen.cells) == 0
    assert thresholds_to_try(seen, count=1) == [-np.inf]


def test_thresholds_descend_to_minus_infinity_and_let_the_ranked_value_in():
    values = np.arange(100.0, 0.0, -1.0)
    tried = thresholds_to_try(Survey(values[:20], values), count=10)
    assert tried == [np.nextafter(89.0, 0), np.nextafter(81.0, 0), np.nextafter(21.0, 0), -np.inf]
