"""The number of picks follows the scores where particles stand out of noise, moves smoothly with the number expected, and promises only what it knows."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.picking.click_heights import ClickHeights
from tomostream.picking.counting import choose_count
from tomostream.picking.peak_heights import LOST, heights_of

pytestmark = pytest.mark.slow

MOST = 1000  # peaks that heights are measured by
RATE = 0.7  # of noise, in heights


def peaks(seed, particles, *, mean=7.0, deviation=1.4, noise=1000):
    """Scores of peaks, falling, and whether each is a particle; noise as it is in heights, from -1 on."""
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(mean, deviation, particles), rng.exponential(1 / RATE, noise) - 0.3])
    order = np.argsort(-scores)
    return scores[order], (np.arange(len(scores)) < particles)[order]


def clicks(seed, *, mean=7.0, deviation=1.4, number=20, zero=0.0, unit=1.0):
    """Heights of clicks as those of the particles in `peaks`."""
    rng = np.random.default_rng([seed, 1])
    left_out, learnt = ((rng.normal(mean, deviation, number) - zero) / unit for _ in range(2))
    return ClickHeights(tuple(learnt), tuple(left_out), unit)


def chosen(scores, expected, known=None, **others):
    return choose_count(scores, expected=expected, most=MOST, clicks=known, **others)


def like(scores, seed, **others):
    """Clicks whose heights are measured as those of these peaks are."""
    measured = heights_of(scores, MOST)
    return clicks(seed, zero=scores[MOST - 1], unit=measured.unit, **others)


def f1(is_particle, k):
    return 2 * is_particle[:k].sum() / (k + is_particle.sum())


@pytest.mark.parametrize("particles", [30, 150])
@pytest.mark.parametrize("guess", [0.7, 1.5])
def test_the_number_is_within_half_as_much_of_the_true_one_and_f1_near_that_at_the_true_count(particles, guess):
    scores, is_particle = peaks(particles, particles)
    found = chosen(scores, round(particles * guess), like(scores, particles))
    assert 1 / 1.5 < found.picks / particles < 1.5
    assert f1(is_particle, found.picks) > f1(is_particle, particles) - 0.12


@pytest.mark.parametrize("scale", [1e-3, 50.0])
def test_the_unit_and_the_zero_of_the_scores_do_not_matter(scale):
    scores, _ = peaks(1, 100)
    known = like(scores, 1)
    assert abs(chosen(scores * scale - 7.0, 110, known).picks - chosen(scores, 110, known).picks) <= 1


scored = st.builds(
    lambda seed, particles, mean, gold: np.sort(
        np.concatenate([peaks(seed, particles, mean=mean)[0], np.random.default_rng(seed).uniform(10, 40, gold)])
    )[::-1],
    st.integers(0, 1000),
    st.integers(0, 300),
    st.floats(2.0, 12.0),
    st.integers(0, 40),
)


@pytest.mark.slow
@settings(max_examples=12)
@given(scores=scored, expected=st.integers(1, 600), mean=st.floats(2.0, 12.0), is_known=st.booleans())
def test_a_tenth_more_expected_gives_no_fewer_picks_and_at_most_a_fifth_more(scores, expected, mean, is_known):
    known = clicks(0, mean=mean) if is_known else None
    less, more = (chosen(scores, number, known).picks for number in (expected, int(1.1 * expected)))
    assert less <= more <= 1.2 * less + 1  # one: counts are whole numbers


@pytest.mark.slow
@settings(max_examples=6)
@given(scores=scored, expected=st.integers(1, 600), mean=st.floats(2.0, 12.0))
def test_nothing_is_promised_of_more_than_twice_the_number_expected_nor_without_left_out_clicks(scores, expected, mean):
    found = chosen(scores, expected, clicks(0, mean=mean))
    if np.isfinite(found.promise.f1):
        assert found.picks <= 2 * expected
        assert 0 <= found.promise.f1 <= 1
        assert 0 <= found.promise.precision <= 1
    for known in (None, ClickHeights((5.0,) * 30, ()), ClickHeights((5.0,) * 30, (5.0,) * 7)):
        unknown = chosen(scores, expected, known).promise
        assert np.isnan(unknown.f1)
        assert unknown.doubt


def test_a_promise_is_near_the_truth_in_the_mean_and_mostly_within_0_08():
    errors = []
    for seed in range(12):
        scores, is_particle = peaks(seed, 100, mean=6.0 + seed % 3)
        found = chosen(scores, 100, like(scores, seed, mean=6.0 + seed % 3))
        if np.isfinite(found.promise.f1):
            errors.append(found.promise.f1 - f1(is_particle, found.picks))
            assert str(found.promise).startswith("F1 0.")
    assert len(errors) >= 5
    assert np.abs(errors).mean() < 0.06
    assert np.mean(np.abs(errors) < 0.08) > 0.7


@pytest.mark.parametrize("mean", [25.0, 60.0])
def test_particles_far_above_all_noise_are_all_found_without_clicks(mean):
    scores, _ = peaks(0, 30, mean=mean, deviation=1.0)
    assert 28 <= chosen(scores, 30).picks <= 31


def test_noise_alone_gives_far_fewer_and_says_so():
    scores, _ = peaks(0, 0)
    found = chosen(scores, 100, clicks(0))
    assert found.picks < 50
    assert np.isnan(found.promise.f1)
    assert "few particles or none" in found.promise.advice


def test_clicks_without_peaks_are_told():
    scores, _ = peaks(0, 100)
    found = chosen(scores, 100, ClickHeights((LOST,) * 10, (LOST,) * 9 + (0.4,)))
    assert "check the clicks" in found.promise.advice
    assert np.isnan(found.promise.f1)


def test_look_alikes_as_high_as_the_clicks_are_told_and_taken_up_to_a_limit():
    scores, _ = peaks(0, 200)  # 60 of them are expected
    found = chosen(scores, 60, like(scores, 0))
    assert found.picks <= 1.7 * 60
    assert "look-alikes, or more particles" in found.promise.doubt
    assert "label" in found.promise.advice


@pytest.mark.parametrize(("scale", "doubt"), [(1.5, "stand not as high"), (0.6, "another contrast|only about")])
def test_in_another_contrast_nothing_is_promised(scale, doubt):
    scores, _ = peaks(0, 100, mean=7.0 * scale)
    known = clicks(0, zero=scores[MOST - 1], unit=heights_of(scores, MOST).unit)
    assert re.search(doubt, chosen(scores, 100, known).promise.doubt)


def test_no_fewer_are_chosen_than_were_clicked_and_nothing_is_promised_of_them():
    scores, _ = peaks(0, 6)
    few = chosen(scores, 6, like(scores, 0))
    assert few.picks < 10
    found = chosen(scores, 6, like(scores, 0), least=10)
    assert found.picks == 10
    assert np.isnan(found.promise.f1)
    assert f"would choose {few.picks}, though 10 particles were clicked there" in found.promise.doubt
    assert "give `expected`" in found.promise.advice
    assert chosen(scores, 6, like(scores, 0), least=few.picks) == few
    assert chosen(scores[:3], 2, least=10).picks == 3  # there are no more peaks


def test_of_an_estimated_number_nothing_is_promised():
    scores, _ = peaks(0, 100)
    assert "give `expected`" in chosen(scores, 100, like(scores, 0), is_estimate=True).promise.doubt


def test_an_estimated_number_is_not_called_one_that_somebody_gave():
    scores, _ = peaks(0, 200)
    told = [chosen(scores, 60, like(scores, 0), is_estimate=is_estimate).promise for is_estimate in (True, False)]
    assert ["where 60 are estimated from the clicks" in one.doubt for one in told] == [True, False]
    assert ["give another `expected`" in one.advice for one in told] == [False, True]


@pytest.mark.parametrize("n", [0, 1, 5, 19])
def test_few_peaks_are_all_taken_up_to_the_expected_number(n):
    scores = np.linspace(1, 0, n)
    assert chosen(scores, 10).picks == min(n, 10)


def test_equal_scores_give_the_expected_number():
    assert chosen(np.full(500, 0.3), 40).picks == 40


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="at least 1, found 0"):
        chosen(np.array([1.0]), 0)
    with pytest.raises(InputError, match="fall"):
        chosen(np.array([0.0, 1.0]), 1)


def test_only_the_peaks_that_heights_are_measured_by_count():
    scores, _ = peaks(4, 100, noise=3000)
    assert chosen(scores, 100).picks == chosen(scores[:MOST], 100).picks
