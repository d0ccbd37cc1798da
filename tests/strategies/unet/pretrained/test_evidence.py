"""Ranks of left-out clicks: what they see, what they don't, and who wins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomostream.strategies.unet.pretrained.evidence import (
    CLEARLY,
    JOINING,
    WAYS,
    chosen,
    cost_of,
    folds_of,
    number_of,
    peaks_of,
    rank_of,
    verdict_of,
)


def scores_with(peaks):
    scores = np.zeros((30, 30, 30), np.float32)
    for place, value in peaks:
        scores[place] = value
    return scores


def test_a_peak_within_half_a_radius_counts_and_one_farther_off_does_not():
    others = np.array([1.0, 2.0, 3.0, 4.0])
    scores = scores_with([((15, 15, 17), 2.5)])
    assert rank_of(scores, np.array([15.0, 15.0, 15.0]), others, radius=4.0) == 2
    assert rank_of(scores - 0.01 * np.arange(30)[:, None, None], np.array([15.0, 15.0, 13.0]), others, radius=4.0) == 4


def test_peaks_are_the_highest_around():
    index, values = peaks_of(scores_with([((5, 5, 5), 2.0), ((5, 5, 7), 1.0), ((20, 20, 20), 3.0)]), radius=5.0)
    above = {tuple(i): v for i, v in zip(index.tolist(), values.tolist(), strict=True) if v > 0}
    assert above == {(5, 5, 5): 2.0, (20, 20, 20): 3.0}


def test_within_the_expected_number_ranks_say_little():
    assert cost_of([0.0, 0.0], 100.0) == 0
    assert cost_of([100.0, 100.0], 100.0) == pytest.approx(np.log(2))
    assert cost_of([50.0], 100.0) - cost_of([5.0], 100.0) < 0.4
    assert cost_of([450.0], 100.0) - cost_of([50.0], 100.0) > 1


@given(st.lists(st.floats(0, 10), min_size=len(WAYS), max_size=len(WAYS)))
def test_the_winner_is_hardly_dearer_than_the_best_and_no_way_before_it_is_as_good(costs):
    number = chosen(WAYS[:1] * len(costs), costs)
    assert costs[number] <= min(costs) + CLEARLY
    assert all(cost > min(costs) + CLEARLY for cost in costs[:number])


@given(st.integers(2, 200))
def test_each_click_is_left_out_once_and_never_all(count):
    folds = folds_of(count)
    assert sorted(i for fold in folds for i in fold) == list(range(count))
    assert len(folds) <= 10
    assert max(map(len, folds)) < count


def test_one_click_can_not_be_left_out():
    assert folds_of(1) == []


def test_every_way_says_what_it_is():
    assert len({str(way) for way in WAYS}) == len(WAYS)
    assert all(way.shrinkage is not None or way.filter > 0 for way in WAYS)


@pytest.mark.parametrize("number", [20, 150, 2000])
def test_the_number_of_particles_is_about_twice_the_median_rank_of_a_random_part_of_them(number):
    rng = np.random.default_rng(number)
    found = [number_of(rng.choice(number, 15, replace=False).astype(float).tolist()) for _ in range(200)]
    assert np.mean(found) == pytest.approx(number, rel=0.1)
    assert np.percentile(found, 5) > 0.5 * number
    assert np.percentile(found, 95) < 1.5 * number


def test_one_click_in_a_wrong_place_changes_the_number_little():
    ranks = [3.0, 10.0, 22.0, 35.0, 41.0, 57.0, 60.0, 72.0, 88.0, 95.0]
    assert number_of([*ranks[:-1], 50_000.0]) == number_of(ranks)


def test_what_nobody_guesses_is_judged_by_the_way_that_ranks_best():
    ways = WAYS[:2]
    verdict = verdict_of(ways, [[4000.0] * 6, [3.0, 5.0, 8.0, 2.0, 1.0, 9.0]], [[0.1] * 6] * 2, expected=None)
    assert verdict.way == ways[1]
    assert verdict.number == 10


def test_a_guess_is_taken_as_given_and_few_ranks_tell_no_number():
    verdict = verdict_of(WAYS[:2], [[10.0, 20.0], [11.0, 19.0]], [[0.01, 0.02]] * 2, expected=1000.0)
    assert verdict.way == WAYS[0]
    assert verdict.number is None
    assert verdict_of(WAYS[:2], [[], []], [[], []], expected=None).costs == ()


@given(st.lists(st.floats(0, 0.99), min_size=6, max_size=30), st.integers(0, 30))
def test_a_way_is_blind_where_a_quarter_of_the_background_is_above_the_median_click_that_is_found(shares, missed):
    ranks = [4000 * share for share in shares]
    verdict = verdict_of(WAYS[:1], [ranks + [4000.0] * missed], [shares + [1.0] * missed], expected=100.0)
    assert verdict.is_blind == (np.median(shares) > 0.25)
    assert verdict.number == (None if verdict.is_blind else number_of(ranks))


def test_where_most_clicks_lie_beside_their_particles_the_others_tell_the_number():
    ranks, shares = [14.0, 65.0, 125.0, 166.0, 239.0, *[16_500.0] * 12], [0.001, 0.004, 0.008, 0.01, 0.015, *[1.0] * 12]
    assert verdict_of(WAYS[:1], [ranks], [shares], expected=None).number == 252


def test_few_clicks_call_no_way_blind():
    assert not verdict_of(WAYS[:1], [[4000.0] * 4], [[1.0] * 4], expected=None).is_blind


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9), st.floats(500, 1e6), st.floats(500, 1e6))
def test_how_far_down_a_click_ranks_that_lies_beside_its_particle_makes_no_difference(ranks, somewhere, elsewhere):
    assert cost_of([*ranks, somewhere], 100.0) == cost_of([*ranks, elsewhere], 100.0)


def test_two_clicks_beside_their_particles_do_not_choose_the_filter_that_ranks_all_others_lower():
    telling = [22.0, 39.0, 74.0, 77.0, 101.0, 111.0, 157.0, 465.0, 12_639.0, 13_355.0]
    average = [69.0, 84.0, 166.0, 194.0, 195.0, 219.0, 227.0, 249.0, 297.0, 12_132.0]
    assert cost_of(telling, 180.0) < cost_of(average, 180.0)


@pytest.mark.parametrize(
    ("costs", "number"),
    [
        ((0.74, 0.68, 0.61, 0.66), 0),  # a head is not clearly better; of the filters the preferred one is as good
        ((0.60, 0.62, 0.53, 0.46), 2),  # a head is; the preferred filter with it is as good
        ((1.79, 1.20, 1.75, 1.15), 1),  # the preferred filter is far worse
    ],
)
def test_whether_a_head_is_needed_is_decided_before_the_filter(costs, number):
    assert chosen(JOINING[:4], costs) == number
