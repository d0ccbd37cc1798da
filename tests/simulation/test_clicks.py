"""Clicks: a few true particles, a little off."""

import numpy as np
import pytest

from tomostream.errors import InputError
from tomostream.particles import Particles
from tomostream.simulation.clicks import simulate_clicks

TRUTH = Particles.build(np.random.default_rng(0).uniform(0, 500, (60, 3)), unit="voxel", tomogram="a", species=["x", "y"] * 30)


def test_clicks_are_near_distinct_particles_of_the_species():
    clicks = simulate_clicks(TRUTH, species="x", count=20, jitter_vox=0.5, seed=3)
    apart = np.linalg.norm(clicks.position_zyx[:, None] - TRUTH.of(species="x").position_zyx[None], axis=2)
    assert apart.min(axis=1).max() < 3
    assert len(set(apart.argmin(axis=1).tolist())) == 20
    assert (clicks.unit, clicks.species_names(), clicks.tomograms()) == ("voxel", ["x"], ["a"])


def test_same_seed_same_clicks():
    first, second, other = (simulate_clicks(TRUTH, species="y", count=5, jitter_vox=1.0, seed=seed).position_zyx for seed in (1, 1, 2))
    assert (first == second).all()
    assert (first != other).any()


def test_more_clicks_than_particles_are_refused():
    with pytest.raises(InputError, match="31 of the species 'x' asked for, and the truth has 30"):
        simulate_clicks(TRUTH, species="x", count=31, jitter_vox=1.0, seed=0)


def test_truth_in_angstrom_is_refused():
    with pytest.raises(InputError, match="this truth is in angstrom"):
        simulate_clicks(TRUTH.in_unit("angstrom", 10.0), species="x", count=1, jitter_vox=1.0, seed=0)
