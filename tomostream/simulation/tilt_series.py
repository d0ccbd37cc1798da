"""Project a scene to a tilt series.

The tilt axis is y.  At tilt t a bead at (z, y, x), counted from the volume's centre, falls on the detector at (y, x cos t + z sin t), and
its projection is an isotropic 2-D Gaussian with the same sigma and mass.  Such a Gaussian is an outer product of one along y and one
along x.  The sum over all beads is therefore a product of two sparse matrices,

    image = Y^T X,   Y[bead, row] = mass * g(row - y),   X[bead, column] = g(column - x cos t - z sin t),

with g cut at 4.5 sigma: exact, without a volume.  The scene is periodic in y and x; on the tilted detector the period along x is
shortened by cos t.  Wrapping both distances shows what lies beyond the field of view, as in a real tilt series.

1. Project.  2. Multiply by contrast transfer and exposure damping, and shift by the residual misalignment, in Fourier space.
3. Add white noise, of the same variance for each tilt (all have the same dose): that of the untilted image without gold, over the SNR.

The detector is wider than the volume, so that all of the volume is seen at every tilt.

Limits: the slab does not get darker with the tilt; no tilt-axis error, no rotation, no distortion; shifts of whole images only.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from jaxtyping import Float32, Float64
from scipy.sparse import csr_array

from tomostream.simulation.optics import (
    AMPLITUDE_CONTRAST,
    SPHERICAL_ABERRATION_MM,
    VOLTAGE_KV,
    contrast_transfer,
    dose_symmetric_order,
    exposure_damping,
)
from tomostream.simulation.species import Beads

_CUT_SIGMA = 4.5
_MARGIN_VOX = 16  # of the detector around the volume, for the fringes of the contrast transfer


@dataclass(frozen=True, slots=True, eq=False)
class TiltSeries:
    """Images of one specimen at several tilts.

    Parameters
    ----------
    images
        One per tilt, (tilt, y, x); the tilt axis, y, passes through the middle of x, (width - 1) / 2.
    angles_deg
        Tilt about y, degrees.
    """

    images: Float32[np.ndarray, "tilt y x"]
    angles_deg: Float64[np.ndarray, " tilt"]


def detector_width(shape: tuple[int, int, int]) -> int:
    """Return the columns of a detector that sees all of a volume (z, y, x) at every tilt, and a margin; a length that suits the FFT."""
    return int(scipy.fft.next_fast_len(int(np.ceil(np.hypot(shape[0], shape[2]))) + 2 * _MARGIN_VOX, real=True))


def project(beads: Beads, *, shape: tuple[int, int, int], angle_deg: float, width: int) -> Float32[np.ndarray, "y x"]:
    """Project beads along the beam.

    Parameters
    ----------
    beads
        In voxels of the volume.
    shape
        Of the volume (z, y, x), voxels; the scene's periods are those of y and x.
    angle_deg
        Tilt about y, above -90 and below 90.
    width
        Columns of the detector.
    """
    depth, height, period = shape
    tilt = np.deg2rad(angle_deg)
    z, y, x = (beads.position_zyx - (np.array([depth, height, period]) - 1) / 2).T
    rows = _gaussians(y + (height - 1) / 2, beads.sigma, period=float(height), length=height)
    columns = _gaussians(
        x * np.cos(tilt) + z * np.sin(tilt) + (width - 1) / 2, beads.sigma, period=period * float(np.cos(tilt)), length=width
    )
    weighted = csr_array((rows.data * np.repeat(beads.mass, np.diff(rows.indptr)), rows.indices, rows.indptr), shape=rows.shape)
    return np.asarray((weighted.T.tocsr() @ columns).toarray(), dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The settings with which a tilt series is recorded.

    Parameters
    ----------
    spacing
        Angstrom per voxel and per pixel.
    angles_deg
        Tilts about y, degrees.
    defocus_ang
        Underfocus, angstrom.
    dose
        Electrons per square angstrom and image.
    snr
        Signal-to-noise ratio: variance of the untilted image without gold, over that of the noise; above zero.
    shift_vox
        Standard deviation of the residual misalignment along y and x, voxels.
    """

    spacing: float
    angles_deg: Float64[np.ndarray, " tilt"]
    defocus_ang: float
    dose: float
    snr: float
    shift_vox: float


def record_tilt_series(
    beads: Beads, gold_beads: Beads, recording: Recording, *, shape: tuple[int, int, int], rng: np.random.Generator
) -> TiltSeries:
    """Record a tilt series of a scene.

    Parameters
    ----------
    beads, gold_beads
        In voxels of the volume; the noise is derived from `beads` alone.
    recording
        The settings.
    shape
        Of the volume (z, y, x), voxels.
    rng
        Source of all random numbers.
    """
    spacing, angles_deg = recording.spacing, recording.angles_deg
    width = detector_width(shape)
    everything = Beads.join([beads, gold_beads])
    ky = scipy.fft.fftfreq(shape[1], spacing)
    kx = scipy.fft.rfftfreq(width, spacing)
    frequency = np.hypot(ky[:, None], kx[None, :])
    transfer = contrast_transfer(
        frequency,
        defocus_ang=recording.defocus_ang,
        voltage_kv=VOLTAGE_KV,
        spherical_aberration_mm=SPHERICAL_ABERRATION_MM,
        amplitude_contrast=AMPLITUDE_CONTRAST,
    )

    def through_the_microscope(image: Float32[np.ndarray, "y x"], factor: np.ndarray) -> Float32[np.ndarray, "y x"]:
        spectrum = scipy.fft.rfft2(image) * factor.astype(np.complex64)
        return np.asarray(scipy.fft.irfft2(spectrum, s=image.shape), dtype=np.float32)

    clean = through_the_microscope(project(beads, shape=shape, angle_deg=0.0, width=width), transfer)
    noise = np.float32(clean.std() / np.sqrt(recording.snr))
    order = dose_symmetric_order(angles_deg)
    images = np.empty((len(angles_deg), shape[1], width), dtype=np.float32)
    for number, angle in enumerate(angles_deg):
        dy, dx = rng.normal(scale=recording.shift_vox * spacing, size=2)
        shift = np.exp(-2j * np.pi * (ky[:, None] * dy + kx[None, :] * dx))
        # plus half of its own dose, the average during the image's exposure
        damping = exposure_damping(frequency, exposure=recording.dose * (float(order[number]) + 0.5))
        images[number] = through_the_microscope(
            project(everything, shape=shape, angle_deg=float(angle), width=width), transfer * damping * shift
        )
        images[number] += noise * rng.standard_normal(images[number].shape, dtype=np.float32)
    return TiltSeries(images, angles_deg)


def _gaussians(centre: Float64[np.ndarray, " n"], sigma: Float64[np.ndarray, " n"], *, period: float, length: int) -> csr_array:
    """Return one normalised 1-D Gaussian per row, sampled at 0 .. length - 1 and repeated with `period`; sparse (n, length)."""
    reach = int(np.ceil(_CUT_SIGMA * sigma.max(initial=0.0)))
    repeats = int(np.ceil((length + 2 * reach) / period))
    # the first copy at or beyond -reach, and those after it
    first = (centre + reach) % period - reach
    copies = first[:, None] + period * np.arange(repeats)
    taps = np.floor(copies).astype(np.int64)[:, :, None] + np.arange(-reach, reach + 2)
    distance = (taps - copies[:, :, None]) / sigma[:, None, None]
    value = np.exp(-0.5 * distance**2) / (np.sqrt(2 * np.pi) * sigma[:, None, None])
    keep = (taps >= 0) & (taps < length) & (np.abs(distance) <= _CUT_SIGMA)
    starts = np.concatenate([[0], np.cumsum(keep.sum(axis=(1, 2)))])
    return csr_array((value[keep], taps[keep], starts), shape=(len(centre), length))
