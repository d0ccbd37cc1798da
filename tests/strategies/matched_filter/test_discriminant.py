"""The discriminant weighs what tells clicks from other peaks, also where unclicked particles are among them; else the average stays."""

import numpy as np
import pytest

from tomostream.geometry import Box
from tomostream.strategies.matched_filter.correlation import Target, normalised_kernel
from tomostream.strategies.matched_filter.discriminant import (
    chosen_profile,
    discriminant_profile,
    peak_profiles,
    profiles_at,
    telling_profile,
)
from tomostream.strategies.matched_filter.profile import kernel_of, radial_profile

SUPPORT = 6.3
LENGTH = 8
SHELLS = np.array([1, 6, 20, 40, 60, 80, 120])  # about the voxels at each distance
WANTED = np.array([-3.0, -3, -3, -2, -1, 0, 0, 0])
LOOK_ALIKE = np.array([-3.0, -3, -3, -2, 0, 0, 0, 0])  # differs at the distance 4 only


def rows(profile, count, seed, noise=0.3):
    return profile + np.random.default_rng(seed).normal(0, noise, (count, LENGTH))


def test_what_differs_gets_the_weight():
    found = discriminant_profile(rows(WANTED, 400, 0), rows(LOOK_ALIKE, 4000, 1), support=SUPPORT)
    weights = np.abs(found[:7]) * SHELLS
    assert weights.argmax() == 4
    assert weights[4] > 5 * np.delete(weights, 4).max()
    assert found[4] < 0  # dark there


def test_unclicked_particles_among_the_peaks_do_not_turn_it():
    clicks = rows(WANTED, 4000, 0)
    pure = rows(LOOK_ALIKE, 8000, 1)
    mixed = np.concatenate([pure, rows(WANTED, 4000, 2)])
    one, two = (discriminant_profile(clicks, peaks, support=SUPPORT)[:7] * SHELLS for peaks in (pure, mixed))
    assert np.corrcoef(one, two)[0, 1] > 0.99


def test_look_alikes_call_for_it():
    profile, is_telling = chosen_profile(rows(WANTED, 10, 0), rows(LOOK_ALIKE, 500, 1), support=SUPPORT)
    assert is_telling
    assert np.array_equal(profile, discriminant_profile(rows(WANTED, 10, 0), rows(LOOK_ALIKE, 500, 1), support=SUPPORT))


def test_where_the_average_ranks_the_clicks_as_well_it_stays():
    clicks = rows(WANTED, 10, 0)
    profile, is_telling = chosen_profile(clicks, rows(np.zeros(LENGTH), 500, 1), support=SUPPORT)
    assert not is_telling
    assert np.array_equal(profile, clicks.mean(axis=0))


@pytest.mark.parametrize(("clicks", "peaks"), [(2, 500), (10, 20), (10, 0), (1, 500)])
def test_with_too_few_to_judge_the_average_stays(clicks, peaks):
    own, others = rows(WANTED, clicks, 0), rows(LOOK_ALIKE, peaks, 1)
    assert not chosen_profile(own, others, support=SUPPORT)[1]
    assert np.array_equal(telling_profile(own, others, support=SUPPORT), own.mean(axis=0))


def test_beside_a_network_the_discriminant_is_used_whatever_the_ranks_say():
    clicks, peaks = rows(WANTED, 10, 0), rows(np.zeros(LENGTH), 500, 1)
    assert np.array_equal(telling_profile(clicks, peaks, support=SUPPORT), discriminant_profile(clicks, peaks, support=SUPPORT))


def test_more_particles_tell_a_better_discriminant_than_ten_clicks():
    """Why the surest picks join the clicks: the mean of ten is noisy."""
    peaks = rows(LOOK_ALIKE, 4000, 1)
    ideal = discriminant_profile(rows(WANTED, 10_000, 9), peaks, support=SUPPORT)[:7] * SHELLS

    def likeness(clicks):
        return np.corrcoef(telling_profile(clicks, peaks, support=SUPPORT)[:7] * SHELLS, ideal)[0, 1]

    few = [rows(WANTED, 10, seed, noise=1.5) for seed in range(20, 40)]
    more = [np.concatenate([clicks, rows(WANTED, 40, 100 + seed, noise=1.5)]) for seed, clicks in enumerate(few)]
    assert np.mean([likeness(clicks) for clicks in more]) > np.mean([likeness(clicks) for clicks in few]) + 0.05


def test_profiles_are_those_of_the_cubes_around_the_voxels():
    volume = Volume(np.random.default_rng(0).normal(size=(30, 32, 34)).astype(np.float32))
    box, index = Box((5, 6, 7), (20, 21, 22)), np.array([[0, 3, 14], [7, 7, 7]])
    found = profiles_at(volume.read, box, index, length=5)
    for row, at in zip(found, index + box.start, strict=True):
        start = at.tolist()
        cube = volume.read(Box(tuple(a - 4 for a in start), tuple(a + 5 for a in start)))
        np.testing.assert_array_equal(row, radial_profile(cube))
    assert profiles_at(volume.read, box, index[:0], length=5).shape == (0, 5)


class Volume:
    """As much of a tomogram as peaks need."""

    def __init__(self, values):
        self.values = values
        self.shape = values.shape

    def read(self, box):
        result = np.zeros(box.shape, dtype=np.float32)
        inside = box.clipped(Box.whole(self.shape))
        result[inside.relative_to(box.start).slices] = self.values[inside.slices]
        return result


def test_peaks_are_where_the_correlation_is_best_and_the_same_each_time():
    values = np.random.default_rng(0).normal(0, 0.1, (40, 40, 40)).astype(np.float32)
    kernel = normalised_kernel(kernel_of(WANTED, SUPPORT), SUPPORT)
    for centre in ((10, 10, 10), (30, 28, 12)):
        values[tuple(slice(c - 6, c + 7) for c in centre)] += 10 * kernel
    volume = Volume(values)
    target = Target([kernel], 6, SUPPORT, 0.0, 1.0)
    first, again = (peak_profiles([volume.shape], [volume.read], target, radius=6.0, length=LENGTH, floor=0.6, seed=3) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape[1] == LENGTH
    assert (first[:, 0] < -0.3).sum() == 2  # the two particles, dark in their middle
