"""Projections against the integral of the density, and images against their optics."""

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.simulation.optics import AMPLITUDE_CONTRAST
from tomostream.simulation.species import Beads
from tomostream.simulation.tilt_series import Recording, TiltSeries, detector_width, project, record_tilt_series

SHAPE = (24, 48, 40)
WIDTH = detector_width(SHAPE)
CENTRE = (np.array(SHAPE) - 1) / 2


def bead(*positions: tuple[float, float, float], sigma: float = 2.0, mass: float = 10.0) -> Beads:
    n = len(positions)
    return Beads(np.array(positions, dtype=np.float64).reshape(n, 3), np.full(n, sigma), np.full(n, mass))


def record(beads: Beads, *, snr: float = 1e12, shift_vox: float = 0.0, dose: float = 0.0, seed: int = 0) -> TiltSeries:
    return record_tilt_series(
        beads,
        bead(),
        Recording(spacing=13.48, angles_deg=np.arange(-60.0, 61.0, 20.0), defocus_ang=30000.0, dose=dose, snr=snr, shift_vox=shift_vox),
        shape=SHAPE,
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("angle", [-60.0, -17.0, 0.0, 45.0])
def test_projection_of_a_centred_gaussian_has_the_analytic_profile(angle):
    image = project(bead(tuple(CENTRE)), shape=(24, 48, 400), angle_deg=angle, width=WIDTH)
    centred = project(bead((11.5, 23.5, 199.5)), shape=(24, 48, 400), angle_deg=angle, width=WIDTH)
    y = np.arange(48)[:, None] - 23.5
    x = np.arange(WIDTH)[None, :] - (WIDTH - 1) / 2
    np.testing.assert_allclose(centred, 10 / (2 * np.pi * 4) * np.exp(-(y**2 + x**2) / 8), atol=2e-5)
    assert image.shape == (48, WIDTH)


@examples(25)
@given(st.floats(0, 23), st.floats(12, 35), st.floats(-6, 6), st.floats(-60, 60))
def test_bead_falls_where_the_tilt_puts_it_and_keeps_its_mass(z, y, dx, angle):
    period = 400
    image = project(bead((z, y, (period - 1) / 2 + dx)), shape=(24, 48, period), angle_deg=angle, width=WIDTH)
    tilt = np.deg2rad(angle)
    assert image.sum() == pytest.approx(10, rel=1e-3)
    assert (image.sum(axis=1) * np.arange(48)).sum() / image.sum() == pytest.approx(y, abs=1e-2)
    column = dx * np.cos(tilt) + (z - 11.5) * np.sin(tilt) + (WIDTH - 1) / 2
    assert (image.sum(axis=0) * np.arange(WIDTH)).sum() / image.sum() == pytest.approx(column, abs=1e-2)


def test_projection_equals_the_sum_of_a_sampled_volume():
    rng = np.random.default_rng(3)
    beads = Beads(rng.uniform((9, 0, 0), (15, 48, 40), size=(6, 3)), rng.uniform(1.2, 1.9, 6), rng.uniform(1, 5, 6))
    z, y, x = (np.arange(n) for n in SHAPE)
    volume = np.zeros(SHAPE)
    for at, sigma, mass in zip(beads.position_zyx, beads.sigma, beads.mass, strict=True):
        dz, dy, dx = z - at[0], (y - at[1] + 24) % 48 - 24, (x - at[2] + 20) % 40 - 20
        squared = dz[:, None, None] ** 2 + dy[:, None] ** 2 + dx**2
        volume += mass * np.exp(-squared / (2 * sigma**2)) / (2 * np.pi * sigma**2) ** 1.5
    # a detector as wide as the volume shows one period; half-voxel centres agree as both widths are even
    image = project(beads, shape=SHAPE, angle_deg=0.0, width=40)
    np.testing.assert_allclose(image, volume.sum(axis=0), atol=3e-4)


def test_tilted_scene_repeats_with_its_shortened_period():
    image = project(bead((11.5, 24.0, 5.0)), shape=SHAPE, angle_deg=60.0, width=WIDTH)
    period = round(40 * np.cos(np.pi / 3))
    np.testing.assert_allclose(image[:, period:], image[:, :-period], atol=1e-6)


def test_no_beads_give_an_empty_image():
    assert not project(bead(), shape=SHAPE, angle_deg=10.0, width=WIDTH).any()


def test_protein_is_dark_at_every_tilt():
    for image in record(bead((11.5, 24.0, 19.5), sigma=2.5)).images:
        assert np.abs(image).max() == -image.min()


def test_mean_of_an_image_is_carried_by_amplitude_contrast_alone():
    beads = bead((11.5, 24.0, 19.5))
    image = record(beads).images[3]
    assert image.sum() == pytest.approx(-AMPLITUDE_CONTRAST * project(beads, shape=SHAPE, angle_deg=0.0, width=WIDTH).sum(), rel=1e-3)


def test_noise_has_the_variance_of_the_untilted_image_over_the_ratio():
    beads = bead((11.5, 24.0, 19.5), (8.0, 10.0, 3.0))
    clean, noisy = record(beads), record(beads, snr=0.2)
    variance = (noisy.images - clean.images).var(axis=(1, 2))
    np.testing.assert_allclose(variance, clean.images[3].var() / 0.2, rtol=0.12)


def test_exposure_blurs_the_tilts_that_are_recorded_last():
    beads = bead((11.5, 24.0, 19.5), sigma=1.2)
    fresh, exposed = record(beads), record(beads, dose=20.0)
    left = exposed.images.std(axis=(1, 2)) / fresh.images.std(axis=(1, 2))
    assert left[3] > left[4] > left[2] > left[5] > left[6]


def test_misalignment_moves_whole_images_by_its_standard_deviation():
    beads = bead((11.5, 24.0, 19.5), (5.0, 9.0, 33.0), sigma=2.5)
    still, moved = (np.fft.fft2(record(beads, shift_vox=vox).images) for vox in (0.0, 0.5))
    # the lowest frequencies along y and x tell the shift by their phase
    along_y = np.angle(moved[:, 1, 0] / still[:, 1, 0]) * 48 / (2 * np.pi)
    along_x = np.angle(moved[:, 0, 1] / still[:, 0, 1]) * WIDTH / (2 * np.pi)
    assert 0.25 < np.concatenate([along_y, along_x]).std() < 0.85
    np.testing.assert_allclose(np.abs(moved[:, 1:24, 1:20]), np.abs(still[:, 1:24, 1:20]), atol=1e-4 * np.abs(still).max())


def test_detector_sees_the_volume_at_every_tilt():
    for angle in np.deg2rad(np.arange(-80, 81)):
        assert 20 * np.cos(angle) + 12 * abs(np.sin(angle)) < WIDTH / 2
