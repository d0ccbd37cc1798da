"""The best picks are split into particles and look-alikes where there are two kinds, and only there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from tomostream.strategies.unet.populations import CANDIDATES, Populations, fit_populations, most_odds, tells

NUMBER, SHELLS = 100, 5


def picks(apart, *, number=NUMBER, shells=SHELLS, seed=0, mixed=0.4):
    """Profiles of picks, best first, and which are particles: the best half all are, `mixed` of the next half and none of the rest; two kinds of others."""
    rng = np.random.default_rng(seed)
    count = int(CANDIDATES * number)
    is_particle = np.arange(count) < number // 2
    is_particle[number // 2 : number] = rng.random(number - number // 2) > mixed
    ways = np.eye(shells)[:2]
    profiles = rng.standard_normal((count, shells))
    profiles[~is_particle] += apart * ways[rng.integers(0, 2, count)][~is_particle]
    return profiles, is_particle


def test_particles_among_look_alikes_are_found():
    profiles, is_particle = picks(5.0)
    found = fit_populations(profiles, NUMBER)
    assert tells(found, profiles, NUMBER)
    assert ((found.log_odds(profiles) > 0) == is_particle).mean() > 0.97


def test_picks_of_one_kind_are_not_split():
    for seed in range(10):
        profiles, _ = picks(0.0, seed=seed)
        assert not tells(fit_populations(profiles, NUMBER), profiles, NUMBER)


def test_too_few_picks_tell_nothing():
    profiles, _ = picks(6.0, number=20)
    assert not tells(fit_populations(profiles, 20), profiles, 20)


def test_picks_that_end_at_the_expected_number_tell_nothing():
    profiles, _ = picks(6.0)
    assert not tells(fit_populations(profiles, NUMBER), profiles[:NUMBER], NUMBER)


def test_the_odds_are_those_of_gaussians_of_one_covariance():
    """The linear functions are the log ratio of densities, in which the quadratic terms cancel."""
    rng = np.random.default_rng(1)
    means, root, portions = rng.standard_normal((3, 4)), rng.standard_normal((4, 4)), np.array([0.5, 0.3, 0.2])
    covariance = root @ root.T + np.eye(4)
    linear = means @ np.linalg.inv(covariance)
    constant = -0.5 * np.einsum("kb,kb->k", linear, means) + np.log(portions)
    populations = Populations(linear[0] - linear[1:], constant[0] - constant[1:])
    places = rng.standard_normal((20, 4))
    density = np.array([portion * multivariate_normal(mean, covariance).pdf(places) for portion, mean in zip(portions, means, strict=True)])
    np.testing.assert_allclose(populations.log_odds(places), np.log(density[0] / density[1:].sum(axis=0)), rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    number=st.integers(2, 40), shells=st.integers(1, 7), seed=st.integers(0, 99), kind=st.sampled_from(["normal", "constant", "equal rows"])
)
def test_any_profiles_give_finite_odds(number, shells, seed, kind):
    profiles = np.random.default_rng(seed).standard_normal((max(number + 2, int(CANDIDATES * number)), shells))
    if kind == "constant":
        profiles[:] = 0.25
    elif kind == "equal rows":
        profiles[:] = profiles[:1]
    found = fit_populations(profiles, number)
    assert np.isfinite(found.log_odds(profiles)).all()
    tells(found, profiles, number)


def test_a_likeness_proves_the_less_the_more_particles_there_seem_to_be_beyond_the_expected_number():
    profiles, _ = picks(5.0)
    found = fit_populations(profiles, NUMBER)
    sure = float(np.median(found.log_odds(profiles)[: NUMBER // 2]))
    limits = []
    for alike in (0, 5, 10, 20):  # of the fifty beyond the hundredth
        some = profiles.copy()
        some[NUMBER:] = profiles[-1]
        some[NUMBER : NUMBER + alike] = profiles[0]
        limits.append(most_odds(found, some, NUMBER))
    assert limits == pytest.approx([sure, 0.6 * sure, 0.2 * sure, 0.0])
    assert found.log_odds(profiles[-1:])[0] < 0 < found.log_odds(profiles[:1])[0]


@pytest.mark.parametrize("share", [0.7, 1.5])
def test_a_wrong_expected_number_does_no_harm(share):
    """Particles keep better odds than look-alikes, or nothing is told."""
    profiles, is_particle = picks(5.0)
    number = int(share * NUMBER)
    extra = np.random.default_rng(5).standard_normal((NUMBER, SHELLS)) + 5 * np.eye(SHELLS)[0]
    longer = np.concatenate([profiles, extra])
    found = fit_populations(longer, number)
    odds = found.log_odds(profiles)
    assert not tells(found, longer, number) or np.median(odds[is_particle]) > np.median(odds[~is_particle])
