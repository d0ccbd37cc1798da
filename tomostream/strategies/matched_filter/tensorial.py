"""Correlate with a density in all orientations by 35 correlations: tensorial template matching.

At one place, the correlation with a density is a function of its orientation.  Written as a function of the unit quaternion q, it is nearly a
homogeneous polynomial of the fourth degree, because what it loses, the parts of the density beyond the second spherical harmonic, is small at the
resolution of a tomogram.  Such a polynomial has 35 coefficients, and each of them is a correlation with one fixed kernel.

1. Make the kernel of each of a set of orientations, with the missing wedge (`density.RotatedKernels`).
2. Fit the polynomial to them by least squares, voxel by voxel.  Its coefficients are the 35 kernels (`tensor_kernels`).
3. Score a volume: correlate it with the 35 kernels, and take, at each voxel, the maximum of the polynomial over a set of orientations
   (`evaluated`).  The polynomial is smooth, so a coarse set is enough.  Its mean over all orientations is less noisy than what varies with them,
   which therefore weighs less (`ANGULAR`).

The wedge is that of the tomogram, not of the particle, so it goes into the fit like all else.

References
----------
Martinez-Sanchez et al. 2024, "Tensorial template matching for fast cross-correlation with rotations and its application for tomography", ECCV.
"""

from itertools import combinations_with_replacement

import numpy as np
from jaxtyping import Float32, Float64
from scipy.spatial.transform import Rotation

from tomostream.strategies.matched_filter.density import RotatedKernels
from tomostream.strategies.matched_filter.rotations import rotation_set

_POWERS = np.array(list(combinations_with_replacement(range(4), 4)))  # the components of q in each monomial
COEFFICIENTS = len(_POWERS)  # 35
EVALUATED_DEG = 30.0  # between the orientations at which the polynomial is evaluated
ANGULAR = 0.7  # weight of what varies with the orientation; 1 is best for a lopsided particle, 0 for a round one (docs/measurements.md)


def monomials(rotations: Rotation) -> Float64[np.ndarray, "n 35"]:
    """Return the products of four components of each rotation's quaternion; q and -q give the same."""
    result: np.ndarray = rotations.as_quat()[:, _POWERS].prod(axis=2)
    return result


def evaluated() -> Float32[np.ndarray, "n 35"]:
    """Return what the coefficients are multiplied by to give the score of each orientation: monomials, drawn to their mean by `ANGULAR`."""
    rows = monomials(rotation_set(EVALUATED_DEG))
    mean = rows.mean(axis=0)
    return np.asarray(mean + ANGULAR * (rows - mean), dtype=np.float32)


def tensor_kernels(kernels: RotatedKernels, rotations: Rotation) -> Float32[np.ndarray, "35 e e e"]:
    """Return the kernels whose correlations are the coefficients of the polynomial.

    Parameters
    ----------
    kernels
        The density in many orientations; they are made one by one.
    rotations
        These orientations, at least 35.
    """
    weights = np.linalg.pinv(monomials(rotations))
    total: np.ndarray | None = None
    for weight, kernel in zip(weights.T, kernels, strict=True):
        part = np.multiply.outer(weight, kernel.astype(np.float64))
        total = part if total is None else np.add(total, part, out=total)
    if total is None:
        raise ValueError("no orientations")
    return total.astype(np.float32)
