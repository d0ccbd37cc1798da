"""Find the orientation of a particle at a given place, as that of the kernel that correlates best.

1. Cut the cube around each place out of the standardised volume; voxels outside of the volume are 0, the mean.
2. Make the kernel of each orientation once, and multiply it with all cubes.  The denominator of a correlation is the same for all orientations at a
   place, so the largest product is the best correlation.
3. Return the matrix of that orientation.

Orientations are no finer than the set that is searched (`template.angle_step`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64

from tomostream.geometry import Box, triple
from tomostream.strategies.matched_filter.density import RotatedKernels

_SHARE = 4  # the cubes that are in memory at once take one part in this many of the budget


def best_rotations(
    kernels: RotatedKernels, half: int, read: Callable[[Box], np.ndarray], places: Float64[np.ndarray, "n 3"], *, memory: int
) -> Float64[np.ndarray, "n 3 3"]:
    """Return the best rotation at each place.

    Parameters
    ----------
    kernels
        Kernels of the density in all orientations.
    half
        Half-width of the kernels, in voxels: their edge is 2 half + 1.
    read
        Function that returns the standardised voxels of a box, which may extend beyond the volume.
    places
        Positions z y x in voxels of the level that `read` reads; they are rounded to voxels.
    memory
        Memory budget in bytes; a quarter of it holds cubes.

    Returns
    -------
    np.ndarray
        Float64 (n, 3, 3) rotation matrices that act on (x, y, z) and take the density's axes to the tomogram's.
    """
    edge = 2 * half + 1
    at_once = max(1, memory // _SHARE // (4 * edge**3))
    centres = np.rint(places).astype(int)
    result = np.empty((len(places), 3, 3))
    for first in range(0, len(places), at_once):
        here = centres[first : first + at_once]
        cubes = np.stack([read(Box(triple((c - half).tolist()), triple((c + half + 1).tolist()))).ravel() for c in here])
        result[first : first + at_once] = kernels.to_tomogram(_best(cubes, kernels))
    return result


def _best(cubes: Float32[np.ndarray, "n v"], kernels: RotatedKernels) -> np.ndarray:
    """Return, for each cube, the index of the kernel with the largest product; the first of equal ones."""
    best, number = np.full(len(cubes), -np.inf, np.float32), np.zeros(len(cubes), int)
    for i, kernel in enumerate(kernels):
        found = cubes @ kernel.ravel()
        better = found > best
        best[better], number[better] = found[better], i
    return number
