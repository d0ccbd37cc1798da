"""Simulate the microscope: contrast transfer and radiation damage, as factors in Fourier space.

1. The contrast transfer function of a weak phase object.  Its sign is that of the recorded intensity: protein is dark in underfocus.
2. The loss of high frequencies with the exposure of the specimen before and during an image.
3. The order in which a dose-symmetric scheme records the tilts, which decides the exposure of each.

Limits: no envelopes of the source and no astigmatism; one defocus for a whole image, whatever the tilt.  At voxels above 10 A these
have little effect.
"""

import numpy as np
from jaxtyping import Float64, Int64

VOLTAGE_KV = 300.0
SPHERICAL_ABERRATION_MM = 2.7
AMPLITUDE_CONTRAST = 0.07


def electron_wavelength(voltage_kv: float) -> float:
    """Return the relativistic wavelength of electrons, angstrom (0.0197 at 300 kV).

    lambda = h / sqrt(2 m e V (1 + e V / (2 m c^2))) = 12.2643 / sqrt(V + 0.978466e-6 V^2), V in volt.

    References
    ----------
    Reimer, Kohl (2008), "Transmission Electron Microscopy", 5th ed., Springer, section 2.1.
    """
    volt = voltage_kv * 1e3
    return float(12.2643 / np.sqrt(volt + 0.978466e-6 * volt**2))


def contrast_transfer(
    frequency: Float64[np.ndarray, "y x"],
    *,
    defocus_ang: float,
    voltage_kv: float,
    spherical_aberration_mm: float,
    amplitude_contrast: float,
) -> Float64[np.ndarray, "y x"]:
    """Return the contrast transfer function, from phase shift of the specimen to intensity.

    chi(k) = pi lambda k^2 (defocus - lambda^2 k^2 Cs / 2),  CTF(k) = -sqrt(1 - A^2) sin(chi) - A cos(chi)

    Parameters
    ----------
    frequency
        |k|, 1/angstrom.
    defocus_ang
        Underfocus is positive, angstrom.
    voltage_kv, spherical_aberration_mm
        Of the microscope.
    amplitude_contrast
        A, 0 to 1.

    References
    ----------
    Mindell, Grigorieff (2003), "Accurate determination of local defocus and specimen tilt in electron microscopy", J. Struct. Biol. 142.
    Rohou, Grigorieff (2015), "CTFFIND4", J. Struct. Biol. 192.
    """
    wavelength = electron_wavelength(voltage_kv)
    squared = frequency**2
    chi = np.pi * wavelength * squared * (defocus_ang - 0.5 * wavelength**2 * squared * spherical_aberration_mm * 1e7)
    return np.asarray(-np.sqrt(1 - amplitude_contrast**2) * np.sin(chi) - amplitude_contrast * np.cos(chi))


def exposure_damping(frequency: Float64[np.ndarray, "y x"], *, exposure: float) -> Float64[np.ndarray, "y x"]:
    """Return the amplitude left at each frequency after an exposure: exp(-N / (2 Ne(k))), Ne(k) = 0.245 k^-1.665 + 2.81.

    Parameters
    ----------
    frequency
        |k|, 1/angstrom.
    exposure
        N, electrons per square angstrom, at 300 kV.

    References
    ----------
    Grant, Grigorieff (2015), "Measuring the optimal exposure for single particle cryo-EM using a 2.6 A reconstruction of rotavirus VP6",
    eLife 4, e06980.
    """
    with np.errstate(divide="ignore"):
        critical = 0.24499 * frequency**-1.6649 + 2.8141
    return np.exp(-exposure / (2 * critical))


def dose_symmetric_order(angles_deg: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return for each tilt how many are recorded before it: small tilts first, and of two equal ones the positive.

    References
    ----------
    Hagen, Wan, Briggs (2017), "Implementation of a cryo-electron tomography tilt-scheme optimized for high resolution subtomogram
    averaging", J. Struct. Biol. 197.
    """
    sequence = np.lexsort((angles_deg < 0, np.abs(angles_deg)))
    order = np.empty(len(angles_deg), dtype=np.int64)
    order[sequence] = np.arange(len(angles_deg))
    return order
