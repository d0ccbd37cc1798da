"""How is the particle at a place turned?  As the density's kernel that fits it best.

1. Cut the cube around each place out of the standardised volume; beyond the faces it is 0, its mean.
2. For each orientation make its kernel once, and multiply it with all cubes: what divides a correlation is the same for all orientations of
   a place, so the largest product is the best correlation.
3. The matrix of that orientation, from the density's axes to the tomogram's, on x, y, z.

The angles are those that were searched: as fine as `template.angle_step`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64

from tomostream.geometry import Box, triple
from tomostream.strategies.matched_filter.density import RotatedKernels

_SHARE = 4  # of the memory that the cubes of one turn may take


def best_rotations(
    kernels: RotatedKernels, half: int, read: Callable[[Box], np.ndarray], places: Float64[np.ndarray, "n 3"], *, memory: int
) -> Float64[np.ndarray, "n 3 3"]:
    """Return the best rotation at each place (z y x, voxels of the level that `read` reads, which may leave the volume).

    Parameters
    ----------
    kernels
        In all orientations.
    half
        Of the kernels, voxels.
    read
        Gives the standardised voxels of a box.
    places
        Are rounded to voxels.
    memory
        Bytes, of which a quarter holds cubes.
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
    """The number of the kernel of the largest product, for each cube; of equal ones the first."""
    best, number = np.full(len(cubes), -np.inf, np.float32), np.zeros(len(cubes), int)
    for i, kernel in enumerate(kernels):
        found = cubes @ kernel.ravel()
        better = found > best
        best[better], number[better] = found[better], i
    return number
