"""Mean-pooling with a count: first the peaks at 0.5, then what lower cuts add."""

import numpy as np
import pytest
from picking_requests import asked

from tomostream.picking.pooled import PICKER
from tomostream.picking.protocol import Source

RADIUS = 4.0
CENTRES = [(10, 10, 10), (10, 10, 30), (10, 30, 10)]


def scores_of(*values: float) -> np.ndarray:
    scores = np.full((20, 40, 40), 0.001, dtype=np.float32)
    for (z, y, x), value in zip(CENTRES, values, strict=True):
        scores[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] = value
    return scores


def picked(scores: np.ndarray, count: int | None, threshold: float | None = None, *, as_logits: bool = False):
    source = Source.of(scores, values="logit" if as_logits else "probability")
    return PICKER.pick(source, *asked(radius=RADIUS, threshold=threshold, count=count, memory=10**9))


def test_lower_cuts_only_add_and_only_what_the_count_lacks():
    scores = scores_of(0.9, 0.3, 0.03)
    every = picked(scores, 3)
    assert every.index_zyx.tolist() == [list(c) for c in CENTRES]
    assert (np.diff(every.score) < 0).all()
    assert [int(np.searchsorted([0.02, 0.05, 0.1, 0.2, 0.5], s)) for s in every.score] == [5, 4, 1]
    for count in (1, 2):
        np.testing.assert_array_equal(picked(scores, count).index_zyx, every.index_zyx[:count])


def test_a_background_that_rises_above_a_lower_cut_displaces_no_peak():
    scores = np.maximum(scores_of(0.9, 0.8, 0.7), np.random.default_rng(0).uniform(0, 0.25, (20, 40, 40)).astype(np.float32))
    first = picked(scores, None)
    assert len(first) == 3
    filled = picked(scores, 10)
    assert {tuple(p) for p in first.index_zyx.tolist()} == {tuple(p) for p in filled.index_zyx[:3].tolist()}
    apart = np.linalg.norm(filled.index_zyx[:, None] - filled.index_zyx[None], axis=2)[np.triu_indices(len(filled), 1)]
    assert apart.min() > RADIUS


def test_without_count_all_peaks_above_one_half_and_fewer_than_wanted_are_all():
    assert len(picked(scores_of(0.9, 0.3, 0.03), None)) == 1
    assert len(picked(scores_of(0.9, 0.3, 0.03), 7)) == 3


def test_a_threshold_is_the_only_cut():
    assert len(picked(scores_of(0.9, 0.3, 0.03), 3, threshold=0.25)) == 2


def test_logits_are_cut_where_their_probabilities_are():
    scores = scores_of(0.9, 0.3, 0.03)
    logits = np.log(scores / (1 - scores))
    wanted, found = picked(scores, 3), picked(logits, 3, as_logits=True)
    np.testing.assert_array_equal(found.index_zyx, wanted.index_zyx)
    assert found.score == pytest.approx(wanted.score)
