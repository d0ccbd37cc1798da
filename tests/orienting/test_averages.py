"""Views, averages and evidence of the engine of `orient`, against volumes that are turned and shifted by other means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import shift as shifted_by
from scipy.spatial.transform import Rotation
from turned_particles import BLOBS_XYZ, RADIUS_VOX, WEIGHTS

from tomostream.orienting.agreement import Evidence, as_spheres, correlation
from tomostream.orienting.alignment import Aligned
from tomostream.orienting.averages import average_of, views
from tomostream.orienting.lattice import Lattice, radial_mean, soft_ball, spectra
from tomostream.orienting.poses import Poser, centred
from tomostream.orienting.solving import edge_for
from tomostream.strategies.matched_filter.density import Wedge

EDGE = edge_for(RADIUS_VOX)
BALL = soft_ball(EDGE, RADIUS_VOX)
WEDGE = Wedge(-60.0, 60.0)


def particle(rotation_zyx=None, offset_zyx=(0.0, 0.0, 0.0)):
    """A cube of the particle; the rotation takes the particle's axes z y x to the cube's."""
    blobs = BLOBS_XYZ[:, ::-1] @ (np.eye(3) if rotation_zyx is None else rotation_zyx).T + np.array(offset_zyx)
    grid = np.stack(np.meshgrid(*[np.arange(EDGE) - EDGE // 2] * 3, indexing="ij"), axis=-1)
    cube = sum(w * np.exp(-((grid - blob) ** 2).sum(axis=-1) / (2 * 1.8**2)) for blob, w in zip(blobs, WEIGHTS, strict=True))
    return cube.astype(np.float32)


def off_by(one, other):
    return np.degrees(Rotation.from_matrix(one @ other.T).magnitude())


@given(st.integers(3, 9), st.sampled_from([None, WEDGE, Wedge(-40.0, 60.0, "x"), Wedge(-90.0, 90.0)]))
def test_of_each_pair_of_frequencies_one_counts_and_only_within_the_cut_off(cut_off, wedge):
    lattice = Lattice.within(21, cut_off, wedge)
    found = {tuple(point) for point in lattice.points.astype(int).tolist()}
    assert len(found) == len(lattice.points)
    assert not found & {tuple(-n for n in point) for point in found}
    along = range(-cut_off, cut_off + 1)
    ball = {(z, y, x) for z in along for y in along for x in along if 0 < z * z + y * y + x * x <= cut_off**2}
    seen = {p for p in ball if wedge is None or wedge.sees(*np.array(p)[:, None])[0]}
    assert found | {tuple(-n for n in point) for point in found} == seen


def test_a_view_is_the_spectrum_of_the_turned_particle():
    lattice = Lattice.within(EDGE, 5, WEDGE)
    for turn in Rotation.random(5, rng=0).as_matrix():
        view = views(particle().astype(np.float64), lattice, turn.T[None])[0]
        true = spectra(particle(turn)[None] + 0, np.ones_like(BALL), lattice)[0]
        assert abs(np.vdot(view, true)) / (np.linalg.norm(view) * np.linalg.norm(true)) > 0.995
        assert np.linalg.norm(view - true) < 0.1 * np.linalg.norm(true)


def test_the_average_of_views_is_the_volume():
    lattice = Lattice.within(EDGE, 7, WEDGE)
    whole = Lattice.within(EDGE, 7, None)
    turns = Rotation.random(60, rng=1).as_matrix()
    volume = particle().astype(np.float64)
    made = average_of(views(volume, lattice, turns), np.ones(60), turns, lattice, np.full(8, 1e-6))
    one, other = (spectra(cube[None].astype(np.float32), np.ones_like(BALL), whole)[0] for cube in (made, volume))
    assert np.linalg.norm(one - other) < 0.12 * np.linalg.norm(other)


def test_noise_makes_an_average_smaller_never_larger():
    lattice = Lattice.within(EDGE, 5, WEDGE)
    turns = Rotation.random(10, rng=2).as_matrix()
    seen = views(particle().astype(np.float64), lattice, turns)
    power = [float((average_of(seen, np.ones(10), turns, lattice, np.full(6, noise)) ** 2).sum()) for noise in (1e-3, 1e3, 1e5)]
    assert power[0] > power[1] > power[2]


def test_subtomograms_are_centred_by_their_mean():
    lattice = Lattice.within(EDGE, 5, None)
    rng = np.random.default_rng(3)
    offsets = rng.integers(-2, 3, (30, 3)).astype(float)
    offsets -= np.rint(offsets.mean(axis=0))
    cubes = np.stack([particle(turn, offset) for turn, offset in zip(Rotation.random(30, rng=rng).as_matrix(), offsets, strict=True)])
    found, _ = centred(spectra(cubes, np.ones_like(BALL), lattice), lattice, 3.6)
    left = found - offsets
    assert np.linalg.norm(left - left.mean(axis=0), axis=1).max() <= 1.5
    assert np.linalg.norm(found, axis=1).max() <= 3.6


def test_a_pose_is_the_turn_and_the_offset_of_the_particle():
    lattice = Lattice.within(EDGE, 7, WEDGE)
    poser = Poser(Aligned(particle().astype(np.float64), np.ones(8), np.empty((0, 3, 3)), np.empty((0, 3))), lattice, 2.1)
    rng = np.random.default_rng(4)
    for turn in Rotation.random(8, rng=rng).as_matrix():
        offset = rng.uniform(-1, 1, 3)
        rotation, shift = poser.pose(spectra(particle(turn, offset)[None], np.ones_like(BALL), lattice)[0])
        assert off_by(rotation.T, turn) < 6
        assert np.abs(shift - offset).max() < 0.6


def test_turned_and_shifted_averages_correlate_and_mirrored_ones_less():
    one = particle().astype(np.float64) * BALL
    turned = shifted_by(particle(Rotation.from_euler("zyx", [50, 20, 100], degrees=True).as_matrix()), (1, -1, 0)).astype(np.float64)
    same = correlation(one, turned, 5)
    mirrored = correlation(one, one[::-1].copy(), 5)
    assert same > 0.85
    assert mirrored < same  # four blobs are nearly their own mirror image at so coarse a resolution
    assert correlation(radial_mean(one), one, 5) < 0.7


def test_spheres_have_the_means_profile_and_no_side():
    cubes = np.stack([particle(turn) for turn in Rotation.random(4, rng=5).as_matrix()])
    spheres = as_spheres(cubes, np.zeros((3, EDGE, EDGE, EDGE), np.float32))
    assert len(spheres) == 3
    for axis in range(3):
        np.testing.assert_allclose(spheres[0], np.flip(spheres[0], axis), atol=1e-6)
    np.testing.assert_allclose(radial_mean(spheres[0]), radial_mean(cubes.mean(axis=0)), atol=1e-5)


@pytest.mark.parametrize(
    ("halves", "spheres", "is_enough"),
    [(0.9, (0.4, 0.45, 0.42), True), (0.6, (0.4, 0.45, 0.42), False), (0.45, (0.4, 0.45, 0.42), False), (0.72, (0.3, 0.3, 0.75), False)],
)
def test_halves_must_agree_beyond_all_spheres(halves, spheres, is_enough):
    assert Evidence(halves, spheres).is_enough == is_enough
