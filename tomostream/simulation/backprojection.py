"""Reconstruct a volume from a tilt series: weighted back-projection.

1. Weight: multiply each image's rows, in Fourier space along x, by the ramp |k|, cut off smoothly.  Without it, low frequencies, where the
   central slices are densest, would be counted more often.
2. Back-project: each voxel is the sum over the tilts of the weighted image where the voxel falls on it, interpolated linearly along x.  The
   tilt axis is y, so that all y of one (z, x) share their two columns and weights: the whole is one product of a sparse matrix
   (z x, tilt column) with the images (tilt column, y).

With the factor of the angular step the result has units of density, outside the missing wedge.  Frequencies farther than the largest tilt
from the kx axis are never measured: the missing wedge.

References
----------
Radermacher (2006), "Weighted back-projection methods", in Frank (ed.), Electron Tomography, 2nd ed., Springer.
"""

import numpy as np
import scipy.fft
from jaxtyping import Float32, Float64
from scipy.sparse import csr_array

from tomostream.simulation.tilt_series import TiltSeries

_ROLL_OFF = 0.05  # width of the soft edge, cycles per voxel


def reconstruct(series: TiltSeries, *, shape: tuple[int, int, int], cut_off: float, workers: int) -> Float32[np.ndarray, "z y x"]:
    """Reconstruct a volume.

    Parameters
    ----------
    series
        Images with the height of the volume, at least two, at equal steps of the tilt.
    shape
        Of the volume (z, y, x), voxels; its centre is on the middle of the images' x.
    cut_off
        Frequency along x at which the ramp ends, cycles per voxel, up to 0.5.
    workers
        Threads of the Fourier transform.
    """
    depth, height, breadth = shape
    tilts, _, width = series.images.shape
    weighted = _weight(series.images, cut_off=cut_off, step_rad=float(np.deg2rad(np.ptp(series.angles_deg) / (tilts - 1))), workers=workers)
    columns = np.ascontiguousarray(np.swapaxes(weighted, 1, 2)).reshape(tilts * width, height)
    lines = back_projection_matrix(series.angles_deg, depth=depth, breadth=breadth, width=width) @ columns
    return np.ascontiguousarray(np.swapaxes(lines.reshape(depth, breadth, height), 1, 2))


def back_projection_matrix(angles_deg: Float64[np.ndarray, " tilt"], *, depth: int, breadth: int, width: int) -> csr_array:
    """Return the sparse matrix (depth * breadth, tilts * width) that sums over the tilts, with linear interpolation; 0 outside the images."""
    z = np.arange(depth)[:, None] - (depth - 1) / 2
    x = np.arange(breadth)[None, :] - (breadth - 1) / 2
    tilt = np.deg2rad(angles_deg)
    at = (x[..., None] * np.cos(tilt) + z[..., None] * np.sin(tilt) + (width - 1) / 2).reshape(depth * breadth, len(tilt))
    left = np.floor(at).astype(np.int32)
    right_share = (at - left).astype(np.float32)
    column = np.stack([left, left + 1], axis=-1)
    share = np.stack([1 - right_share, right_share], axis=-1)
    share[(column < 0) | (column >= width)] = 0
    column = np.clip(column, 0, width - 1) + (np.arange(len(tilt), dtype=np.int32) * np.int32(width))[:, None]
    starts = np.arange(depth * breadth + 1, dtype=np.int32) * (2 * len(tilt))
    return csr_array((share.ravel(), column.ravel(), starts), shape=(depth * breadth, len(tilt) * width))


def _weight(images: Float32[np.ndarray, "tilt y x"], *, cut_off: float, step_rad: float, workers: int) -> Float32[np.ndarray, "tilt y x"]:
    """Multiply by step_rad * |k| along x, with a raised cosine that ends at `cut_off`; padded, because the ramp's filter is long."""
    width = images.shape[2]
    padded = int(scipy.fft.next_fast_len(2 * width, real=True))
    frequency = scipy.fft.rfftfreq(padded)
    edge = np.clip((cut_off - frequency) / _ROLL_OFF, 0, 1)
    ramp = (step_rad * frequency * 0.5 * (1 - np.cos(np.pi * edge))).astype(np.float32)
    spectrum = scipy.fft.rfft(images, n=padded, axis=2, workers=workers) * ramp
    return np.asarray(scipy.fft.irfft(spectrum, n=padded, axis=2, workers=workers)[:, :, :width], dtype=np.float32)
