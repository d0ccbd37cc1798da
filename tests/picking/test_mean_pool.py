"""Peaks by mean-pooling against a whole-volume loop in numpy, and what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from picking_oracle import VOLUMES, greedy_loop
from picking_requests import asked
from scipy.ndimage import uniform_filter

from tomostream.errors import InputError
from tomostream.geometry import Box
from tomostream.picking.blocks import pick_volume
from tomostream.picking.mean_pool import MeanPool
from tomostream.picking.protocol import Picks, Source

MEMORY = 10**9


def peaks(scores: np.ndarray, pool: MeanPool, **settings: object) -> Picks:
    return pick_volume(Source.of(scores), *asked(threshold=0.0, memory=MEMORY, **settings), pool=pool)


def pooled_peaks(scores: np.ndarray, pool: MeanPool) -> np.ndarray:
    """The definition, on the whole volume: pool round by round in a margin of zeros, then compare each voxel with its 26 neighbours."""
    hill = np.pad((scores.astype(np.float64) > pool.threshold).astype(np.float64), pool.halo)
    for _ in range(pool.rounds):
        sums = np.zeros_like(hill)
        for z, y, x in np.ndindex(5, 5, 5):  # what rolls in from the other side stays in the margin
            sums += np.roll(hill, (z - 2, y - 2, x - 2), (0, 1, 2))
        hill = sums
    hill = hill[tuple(slice(pool.halo, -pool.halo) for _ in range(3))]
    around = np.pad(hill, 1, constant_values=-np.inf)
    shape = np.array(hill.shape)
    highest = np.max([around[z : z + shape[0], y : y + shape[1], x : x + shape[2]] for z, y, x in np.ndindex(3, 3, 3)], axis=0)
    return np.where((hill == highest) & (hill > 0), hill / 125.0**pool.rounds, -np.inf)


@examples(60)
@given(
    kind=st.sampled_from(sorted(VOLUMES)),
    seed=st.integers(0, 10**6),
    shape=st.tuples(*[st.integers(1, 17)] * 3),
    block=st.tuples(*[st.integers(5, 12)] * 3),
    rounds=st.integers(1, 3),
    radius=st.floats(1, 6),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    count=st.none() | st.integers(1, 12),
)
def test_picks_are_those_of_the_whole_volume_whatever_the_blocks(kind, seed, shape, block, rounds, radius, threshold, count):
    scores = VOLUMES[kind](np.random.default_rng(seed), shape)
    pool = MeanPool(threshold, rounds)
    wanted, wanted_score = greedy_loop(pooled_peaks(scores, pool), radius, count=count)

    picks = pick_volume(Source.of(scores), *asked(radius=radius, threshold=0.0, count=count, memory=MEMORY, block=block), pool=pool)

    np.testing.assert_array_equal(picks.index_zyx, wanted)
    np.testing.assert_array_equal(picks.score, wanted_score)


@pytest.mark.parametrize("rounds", [7, 12])  # exact, and beyond 2^53
def test_parts_have_the_bits_of_the_whole(rounds):
    scores = np.random.default_rng(0).random((40, 44, 48)).astype(np.float32)
    pool, whole = MeanPool(0.5, rounds), Box.whole((40, 44, 48))
    all_peaks = pool.peaks(scores, at=whole, wanted=whole, shape=whole.shape)

    part = Box((7, 20, 13), (12, 44, 31))
    at = part.expanded(pool.halo).clipped(whole)
    np.testing.assert_array_equal(pool.peaks(scores[at.slices], at=at, wanted=part, shape=whole.shape), all_peaks[part.slices])


def test_a_round_is_the_mean_over_a_window():
    scores = np.zeros((20, 20, 20), dtype=np.float32)
    scores[8:12, 9:11, 10] = 1
    pool, whole = MeanPool(0.5, 2), Box.whole((20, 20, 20))
    expected = uniform_filter(uniform_filter(scores.astype(np.float64), 5), 5)
    assert pool.peaks(scores, at=whole, wanted=whole, shape=whole.shape).max() == pytest.approx(expected.max(), rel=1e-12)


def test_a_ragged_blob_has_one_peak_in_its_middle_and_touching_particles_two():
    rng = np.random.default_rng(1)
    z, y, x = np.indices((30, 40, 60))
    is_blob = ((z - 15) ** 2 + (y - 20) ** 2 + (x - 18) ** 2 <= 49) | ((z - 15) ** 2 + (y - 20) ** 2 + (x - 35) ** 2 <= 49)
    scores = np.where(is_blob & (rng.random(is_blob.shape) < 0.7), 0.9, 0.1).astype(np.float32)

    picks = peaks(scores, MeanPool.for_radius(10.0, threshold=0.5), radius=10.0)

    assert len(picks) == 2
    for centre in [(15, 20, 18), (15, 20, 35)]:
        assert np.linalg.norm(picks.index_zyx - centre, axis=1).min() <= 1.5


def test_of_two_peaks_too_close_the_larger_stays():
    scores = np.zeros((20, 20, 40), dtype=np.float32)
    scores[8:12, 8:12, 8:12] = 1
    scores[9:11, 9:11, 22:24] = 1
    pool = MeanPool(0.5, 1)

    def found(radius: float) -> list[int]:
        return peaks(scores, pool, radius=radius).index_zyx[:, 2].tolist()

    assert len(found(10.0)) == 2
    assert len(found(20.0)) == 1
    assert 8 <= found(20.0)[0] < 12


def test_fewer_peaks_than_wanted_are_all_there_are():
    scores = np.zeros((20, 20, 20), dtype=np.float32)
    scores[8:12, 8:12, 8:12] = 1
    assert len(peaks(scores, MeanPool(0.5, 2), radius=10.0, count=5)) == 1


def test_missing_scores_are_background_and_nothing_gives_nothing():
    scores = np.full((9, 9, 9), np.nan, dtype=np.float32)
    pool = MeanPool(0.5, 2)
    assert len(peaks(scores, pool, radius=3.0)) == 0


@pytest.mark.parametrize(("threshold", "rounds"), [(np.nan, 1), (np.inf, 1), (0.5, 0)])
def test_settings_that_cant_be_meant_are_refused(threshold, rounds):
    with pytest.raises(InputError):
        MeanPool(threshold, rounds)


def test_the_windows_reach_as_far_as_a_label():
    assert [MeanPool.for_radius(r, threshold=0.5).rounds for r in (0.5, 2.0, 5.0, 10.0)] == [1, 1, 2, 3]
    with pytest.raises(InputError):
        MeanPool.for_radius(0.0, threshold=0.5)
