"""Reconstruction: things lie where they were, and what was not measured is empty."""

import numpy as np
import pytest

from tomostream.simulation.backprojection import back_projection_matrix, reconstruct
from tomostream.simulation.species import Beads
from tomostream.simulation.tilt_series import TiltSeries, detector_width, project

SHAPE = (40, 24, 56)
WIDTH = detector_width(SHAPE)
ANGLES = np.arange(-60.0, 61.0, 3.0)


def images_of(beads: Beads, angles: np.ndarray = ANGLES) -> TiltSeries:
    # a period so long that nothing repeats: the centre of the volume's x stays where it is
    shifted = Beads(beads.position_zyx + np.array([0, 0, 500.0]), beads.sigma, beads.mass)
    shape = (SHAPE[0], SHAPE[1], SHAPE[2] + 1000)
    return TiltSeries(np.stack([project(shifted, shape=shape, angle_deg=float(a), width=WIDTH) for a in angles]), angles)


@pytest.mark.parametrize("position", [(19.5, 11.5, 27.5), (10.0, 6.0, 12.0), (28.3, 17.6, 45.2)])
def test_bead_comes_back_at_its_position_within_half_a_voxel(position):
    volume = reconstruct(images_of(Beads(np.array([position]), np.array([1.5]), np.array([1.0]))), shape=SHAPE, cut_off=0.5, workers=1)
    bright = np.clip(volume - 0.3 * volume.max(), 0, None)
    centre = [(bright * np.indices(SHAPE)[axis]).sum() / bright.sum() for axis in range(3)]
    np.testing.assert_allclose(centre, position, atol=0.5)


def test_all_tilts_give_the_density_itself():
    beads = Beads(np.array([[19.0, 11.0, 27.0]]), np.array([2.5]), np.array([1.0]))
    angles = np.arange(-88.0, 89.0, 2.0)
    volume = reconstruct(images_of(beads, angles), shape=SHAPE, cut_off=0.5, workers=1)
    peak = 1 / (2 * np.pi * 2.5**2) ** 1.5
    assert volume.max() == pytest.approx(peak, rel=0.06)


def test_missing_wedge_is_empty():
    rng = np.random.default_rng(0)
    series = TiltSeries(rng.standard_normal((len(ANGLES), 24, WIDTH), dtype=np.float32), ANGLES)
    volume = reconstruct(series, shape=SHAPE, cut_off=0.5, workers=1)
    window = np.hanning(SHAPE[0])[:, None, None] * np.hanning(SHAPE[2])
    power = (np.abs(np.fft.fftn(volume * window)) ** 2).mean(axis=1)
    kz, kx = np.abs(np.fft.fftfreq(SHAPE[0]))[:, None], np.abs(np.fft.fftfreq(SHAPE[2]))[None, :]
    from_axis = np.rad2deg(np.arctan2(kz, np.broadcast_to(kx, (SHAPE[0], SHAPE[2]))))
    within = (np.hypot(kz, kx) > 0.15) & (np.hypot(kz, kx) < 0.4)
    measured, missing = power[within & (from_axis < 55)].mean(), power[within & (from_axis > 72)].mean()
    assert missing < 0.01 * measured


def test_cut_off_empties_the_frequencies_beyond():
    rng = np.random.default_rng(0)
    series = TiltSeries(rng.standard_normal((len(ANGLES), 24, WIDTH), dtype=np.float32), ANGLES)
    volume = reconstruct(series, shape=SHAPE, cut_off=0.25, workers=1)
    power = np.abs(np.fft.fft(volume * np.hanning(SHAPE[2]), axis=2)) ** 2
    kx = np.abs(np.fft.fftfreq(SHAPE[2]))
    assert power[:, :, kx > 0.32].mean() < 5e-3 * power[:, :, kx < 0.2].mean()


def test_matrix_interpolates_linearly_between_two_columns():
    matrix = back_projection_matrix(np.array([0.0, 30.0]), depth=4, breadth=6, width=21)
    ramp = np.concatenate([np.arange(21.0), np.arange(21.0)])
    z, x = np.mgrid[:4, :6]
    expected = (x - 2.5 + 10) + ((x - 2.5) * np.cos(np.pi / 6) + (z - 1.5) * 0.5 + 10)
    np.testing.assert_allclose((matrix @ ramp).reshape(4, 6), expected, atol=1e-5)


def test_what_falls_beside_the_images_counts_as_nothing():
    total = back_projection_matrix(np.array([0.0]), depth=1, breadth=9, width=5) @ np.ones(5)
    assert total.tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]
