"""Without any guess, two groups of scores are told apart."""

import numpy as np
import pytest

from tomostream.picking.two_groups import CANDIDATES, particles_among


@pytest.mark.parametrize("particles", [60, 150, 300])
def test_the_bump_is_counted_with_hardly_a_guess(particles):
    rng = np.random.default_rng(particles)
    scores = np.sort(np.concatenate([rng.normal(6.0, 1.0, particles), rng.exponential(1.0, 2000)]))[::-1]
    assert particles_among(scores, expected=200, spread=5.0) == pytest.approx(particles, rel=0.2)


def test_few_or_equal_scores_say_nothing():
    assert particles_among(np.linspace(1, 0, 12), expected=10, spread=5.0) == 10
    assert particles_among(np.full(CANDIDATES * 40, 0.3), expected=40, spread=5.0) == 40
