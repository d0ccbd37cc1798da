"""How do voxels become grey pictures that compare by eye?  Means over slabs of planes, smoothed, in standard deviations of such pictures.

Grey: 0 where nothing is known (NaN), else 1 to 255 for the mean +- `SPREAD` standard deviations.  The contrast of a page is in the same unit, so it
stays right when a thicker slab has less noise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from tomostream.geometry import Box, triple

SPREAD = 6.0
_TRUNCATE = 3.0  # standard deviations at which a smoothing ends


def slab_mean(read: Callable[[Box], np.ndarray], box: Box, *, axis: int, most: int) -> np.ndarray:
    """The mean over one axis of a box: float32 with the other two, NaN where a voxel is not known.

    Parameters
    ----------
    read
        Gives the voxels of a box as numbers.
    most
        Voxels that are read at once, unless a single plane has more.
    """
    depth = box.shape[axis]
    thick = max(1, most // max(1, box.size // depth))
    total: np.ndarray | None = None
    for first in range(box.start[axis], box.stop[axis], thick):
        start, stop = list(box.start), list(box.stop)
        start[axis], stop[axis] = first, min(first + thick, box.stop[axis])
        summed = read(Box(triple(start), triple(stop))).sum(axis=axis, dtype=np.float32)
        total = summed if total is None else total + summed
    assert total is not None  # a box has planes
    return total / np.float32(depth)


def smoothed(values: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth by a Gaussian what is known; NaN stays NaN, and spoils nothing around it."""
    is_known = np.isfinite(values)
    result: np.ndarray = gaussian_filter(np.where(is_known, values, 0), sigma, truncate=_TRUNCATE)
    if not is_known.all():
        share = gaussian_filter(is_known.astype(np.float32), sigma, truncate=_TRUNCATE)
        result = np.where(is_known, result / np.maximum(share, 1e-6), np.nan)
    return result


def smoothing_halo(sigma: float) -> int:
    """How many pixels around a picture its smoothing needs."""
    return int(np.ceil(_TRUNCATE * sigma))


def robust_scale(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of a picture; robust against gold and empty borders."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return 0.0, 1.0
    low, middle, high = np.percentile(known, [15.865, 50, 84.135])  # of a normal distribution: one standard deviation to each side
    return float(middle), float((high - low) / 2 or float(known.std()) or 1.0)


def grey_values(values: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Turn values into grey: 128 is the mean, 1 and 255 lie `SPREAD` standard deviations off, 0 is unknown."""
    is_known = np.isfinite(values)
    scaled = np.where(is_known, (values - mean) * np.float32(127 / (SPREAD * std)) + 128, 0)
    grey: np.ndarray = np.where(is_known, np.clip(np.rint(scaled), 1, 255), 0).astype(np.uint8)
    return grey
