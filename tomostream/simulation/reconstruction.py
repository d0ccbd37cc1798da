"""From a tilt series to a tomogram: weighted back-projection.

Each image is weighted by |k| across the tilt axis, damped towards the cut-off, and smeared back along its direction.  Frequencies between the
largest tilt angles are never measured: the missing wedge.

References
----------
Radermacher (1988), Three-dimensional reconstruction of single particles from random and nonrandom tilt series, J Electron Microsc Tech 9.
"""

from __future__ import annotations

import numpy as np
import scipy.fft

from tomostream.geometry import Triple
from tomostream.simulation.tilt_series import projector

CUT_OFF = 0.4  # cycles per pixel beyond which frequencies are damped
_FALL_OFF = 0.05


def ramp(pixels: int) -> np.ndarray:
    """Weights over the frequencies of a real transform of `pixels`."""
    frequency = scipy.fft.rfftfreq(pixels)
    damping = np.where(frequency > CUT_OFF, np.exp(-((frequency - CUT_OFF) ** 2) / (2 * _FALL_OFF**2)), 1.0)
    # not zero at zero: the mean of an image is kept in proportion to its share of the first frequency
    return np.maximum(frequency, 0.25 / pixels) * damping


def back_project(images: np.ndarray, angles: np.ndarray, shape: Triple) -> np.ndarray:
    """Reconstruct a float32 volume (z, y, x) of `shape` from images (angle, y, x') at angles in degrees."""
    depth, height, width = shape
    weights = ramp(images.shape[2])
    flat = np.zeros((height, depth * width), dtype=np.float32)
    for image, angle in zip(images, angles, strict=True):
        filtered = scipy.fft.irfft(scipy.fft.rfft(image, axis=1, workers=2) * weights, n=image.shape[1], axis=1, workers=2)
        flat += filtered.astype(np.float32) @ projector(shape, float(angle)).T
    volume = flat.reshape(height, depth, width).transpose(1, 0, 2)
    return np.ascontiguousarray(volume / np.float32(len(angles)))
