"""Learning rates are pure functions of what has happened."""

import math

import pytest

from tomostream.learn.schedule import learning_rate


def cosine(progress: float) -> float:
    return learning_rate("cosine", full=2.0, progress=progress, criteria=[])


def plateau(criteria: list[float]) -> float:
    return learning_rate("plateau", full=2.0, progress=0.5, criteria=criteria)


def test_cosine_falls_from_the_full_rate_to_zero():
    rates = [cosine(i / 10) for i in range(11)]
    assert rates[0] == 2.0
    assert rates[5] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.0)
    assert rates == sorted(rates, reverse=True)


def test_plateau_halves_after_five_epochs_without_better_validation():
    assert plateau([]) == 2.0
    assert plateau([0.5] + [0.4] * 4) == 2.0
    assert plateau([0.5] + [0.4] * 5) == 1.0
    assert plateau([0.5] + [0.4] * 9) == 1.0
    assert plateau([0.5] + [0.4] * 10) == 0.5
    assert plateau([0.5] + [0.4] * 4 + [0.6] + [0.5] * 4) == 2.0


def test_equal_criterion_is_not_better_and_nan_never_is():
    assert plateau([0.5] * 6) == 1.0
    assert plateau([0.5] + [math.nan] * 5) == 1.0
    assert plateau([math.nan, 0.1, 0.2, 0.3, 0.4, 0.5]) == 2.0
