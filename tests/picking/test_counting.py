"""The number of picks follows the scores where they show two groups, and the expected number where they don't."""

import numpy as np
import pytest

from tomostream.errors import InputError
from tomostream.picking.counting import CANDIDATES, choose_count


def peaks(seed, particles, *, noise=2000, mean=6.0, deviation=1.0):
    """Scores of peaks, falling, and whether each is a particle."""
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(mean, deviation, particles), rng.exponential(1.0, noise)])
    order = np.argsort(-scores)
    return scores[order], (np.arange(len(scores)) < particles)[order]


def f1(is_particle, k):
    return 2 * is_particle[:k].sum() / (k + is_particle.sum())


@pytest.mark.parametrize(("particles", "guess"), [(60, 1.0), (150, 0.75), (150, 1.3), (300, 1.2)])
def test_with_two_groups_f1_is_about_that_at_the_true_count_whatever_the_guess(particles, guess):
    lost, misjudged = [], []
    for seed in range(6):
        scores, is_particle = peaks(seed, particles)
        chosen = choose_count(scores, expected=round(particles * guess))
        lost.append(f1(is_particle, particles) - f1(is_particle, chosen.picks))
        misjudged.append(chosen.f1 - f1(is_particle, chosen.picks))
    assert np.mean(lost) < 0.015
    assert abs(np.mean(misjudged)) < 0.05


@pytest.mark.parametrize("scale", [1e-3, 50.0])
def test_the_unit_and_the_zero_of_the_scores_do_not_matter(scale):
    scores, _ = peaks(1, 100)
    assert choose_count(scores * scale - 7.0, expected=110).picks == pytest.approx(choose_count(scores, expected=110).picks, abs=1)


def test_without_a_second_group_the_guess_decides():
    scores = np.sort(np.random.default_rng(0).exponential(1.0, 3000))[::-1]
    for expected in (50, 200):
        chosen = choose_count(scores, expected=expected)
        assert 0.4 * expected <= chosen.particles <= 2 * expected


def test_a_wrong_guess_is_corrected_towards_the_scores():
    scores, _ = peaks(3, 150)
    for guess in (100, 220):
        assert abs(choose_count(scores, expected=guess).particles - 150) < 0.5 * abs(guess - 150)


@pytest.mark.parametrize("n", [0, 1, 5, 19])
def test_few_peaks_are_all_taken_up_to_the_expected_number(n):
    scores = np.linspace(1, 0, n)
    assert choose_count(scores, expected=10).picks == min(n, 10)


def test_equal_scores_give_the_expected_number():
    assert choose_count(np.full(500, 0.3), expected=40).picks == 40


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="at least 1, found 0"):
        choose_count(np.array([1.0]), expected=0)
    with pytest.raises(InputError, match="fall"):
        choose_count(np.array([0.0, 1.0]), expected=1)


def test_only_the_highest_peaks_count():
    scores, _ = peaks(4, 100, noise=5000)
    assert choose_count(scores, expected=100) == choose_count(scores[: CANDIDATES * 100], expected=100)
