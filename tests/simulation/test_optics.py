"""Optics against values computed by hand."""

import numpy as np
import pytest

from tomostream.simulation.optics import contrast_transfer, dose_symmetric_order, electron_wavelength, exposure_damping


def transfer(
    frequency: float, *, defocus_ang: float = 30000.0, spherical_aberration_mm: float = 2.7, amplitude_contrast: float = 0.07
) -> float:
    value = contrast_transfer(
        np.array([[frequency]]),
        defocus_ang=defocus_ang,
        voltage_kv=300.0,
        spherical_aberration_mm=spherical_aberration_mm,
        amplitude_contrast=amplitude_contrast,
    )
    return float(value[0, 0])


@pytest.mark.parametrize(("kilovolt", "angstrom"), [(100.0, 0.037014), (200.0, 0.025079), (300.0, 0.019687)])
def test_wavelengths_are_those_of_the_textbook(kilovolt, angstrom):
    assert electron_wavelength(kilovolt) == pytest.approx(angstrom, rel=1e-4)


def test_transfer_at_one_over_50_angstrom_is_the_hand_computed_value():
    # lambda 0.0196875, k^2 4e-4: pi lambda k^2 = 2.474004e-5; lambda^2 k^2 Cs / 2 = 3.87598e-4 * 4e-4 * 1.35e7 = 2.093;
    # chi = 2.474004e-5 * (30000 - 2.093) = 0.742149; sin 0.675875, cos 0.737016; -0.997547 * 0.675875 - 0.07 * 0.737016 = -0.725808
    assert transfer(1 / 50) == pytest.approx(-0.725808, abs=2e-5)


def test_transfer_at_zero_frequency_is_the_amplitude_contrast_and_dark():
    assert transfer(0.0) == pytest.approx(-0.07)


def test_underfocus_makes_low_frequencies_dark_and_overfocus_bright():
    assert transfer(1 / 60) < 0
    assert transfer(1 / 60, defocus_ang=-30000.0) > 0


def test_first_zero_without_aberration_and_amplitude_contrast_is_where_chi_is_pi():
    zero = 1 / np.sqrt(electron_wavelength(300.0) * 30000.0)
    assert transfer(float(zero), spherical_aberration_mm=0.0, amplitude_contrast=0.0) == pytest.approx(0.0, abs=1e-9)


def test_twice_the_critical_exposure_leaves_one_over_e():
    # Ne(1/20) = 0.24499 * 20^1.6649 + 2.8141 = 38.725; after twice that the amplitude is 1/e
    frequency = np.array([[0.0, 1 / 20]])
    left = exposure_damping(frequency, exposure=2 * (0.24499 * 20**1.6649 + 2.8141))
    assert left[0, 0] == 1.0
    assert left[0, 1] == pytest.approx(np.exp(-1))


def test_exposure_takes_high_frequencies_first():
    left = exposure_damping(np.linspace(0.001, 0.1, 20)[None], exposure=60.0)[0]
    assert (np.diff(left) < 0).all()


def test_dose_symmetric_order_goes_outwards_on_alternate_sides():
    assert dose_symmetric_order(np.array([-6.0, -3.0, 0.0, 3.0, 6.0])).tolist() == [4, 2, 0, 1, 3]
