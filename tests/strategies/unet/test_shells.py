"""A radial profile is what numpy computes voxel by voxel, and its weighted sum is a correlation that can be computed everywhere."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_volume import reader_of

from tomostream.geometry import Box
from tomostream.strategies.matched_filter.correlation import CorrelationScorer
from tomostream.strategies.unet.shells import MOST_SHELLS, profiles_at, shell_target, shells_of

SHAPE = (18, 20, 22)


@pytest.fixture(scope="module")
def volume():
    return np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


def plain_profile(volume, place, support, floor):
    """Voxel by voxel, in a padded copy."""
    half = math.floor(support)
    padded = np.pad(volume.astype(np.float64), half)
    count = shells_of(support)
    values = [[] for _ in range(count)]
    for offset in np.ndindex(*[2 * half + 1] * 3):
        distance = math.sqrt(sum((o - half) ** 2 for o in offset))
        if distance <= support:
            values[min(int(distance / (support / count)), count - 1)].append(padded[tuple(np.add(place, offset))])
    everything = np.concatenate(values)
    return (np.array([np.mean(one) if one else 0.0 for one in values]) - everything.mean()) / math.sqrt(everything.var() + floor**2)


@settings(max_examples=15, deadline=None)
@given(
    support=st.floats(1.0, 8.0), floor=st.sampled_from([0.0, 0.4]),
    place=st.tuples(st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1), st.integers(0, SHAPE[2] - 1)), seed=st.integers(0, 9),
)  # fmt: skip
def test_profiles_and_their_weighted_sums(volume, support, floor, place, seed):
    wanted = plain_profile(volume, place, support, floor)
    found = profiles_at(reader_of(volume), np.array([place]), support=support, floor=floor)
    np.testing.assert_allclose(found[0], wanted, atol=1e-6)
    weights = np.random.default_rng(seed).standard_normal(shells_of(support))
    scorer = CorrelationScorer([shell_target(tuple(weights), support)], floor=floor, threads=None)
    sums = scorer.logits(volume, Box.whole(SHAPE), Box.whole(SHAPE), SHAPE)[0]
    assert sums[place] == pytest.approx(float(weights @ wanted), abs=2e-4)


@pytest.mark.parametrize("support", [0.4, 1.0, 3.7, 7.0, 42.0])
def test_every_shell_has_a_voxel_and_a_width_of_one_at_least(support):
    count = shells_of(support)
    assert 1 <= count <= MOST_SHELLS
    assert count == 1 or support / count >= 1
    profile = profiles_at(reader_of(np.ones((3, 3, 3), dtype=np.float32)), np.array([[1, 1, 1]]), support=support, floor=0.1)
    assert profile.shape == (1, count)
    assert np.isfinite(profile).all()


def test_weights_as_the_shells_voxels_tell_nothing(volume):
    """Their sum is the ball's mean less itself."""
    distance = np.sqrt(sum(axis.astype(float) ** 2 for axis in np.mgrid[-3:4, -3:4, -3:4]))
    voxels = np.histogram(distance[distance <= 3.2], bins=np.linspace(0, 3.2, 4))[0]
    scorer = CorrelationScorer([shell_target(tuple(map(float, voxels)), 3.2)], floor=0.4, threads=None)
    assert np.abs(scorer.logits(volume, Box.whole(SHAPE), Box.whole(SHAPE), SHAPE)).max() < 1e-4
