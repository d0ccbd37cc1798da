"""How is a particle turned?  Rotation matrices inside, and the angles that other software writes.

A rotation is a 3 x 3 matrix on x, y, z that takes the reference's axes to the tomogram's: `tomogram = matrix @ reference`.  NaN: not known.
Angles are in degrees.

=========  ==========================  ==================================================================
software   angles                      matrix
=========  ==========================  ==================================================================
RELION     rot, tilt, psi              inverse of Rz(rot) Ry(tilt) Rz(psi)
Dynamo     tdrot, tilt, narot          inverse of Rz(narot) Rx(tilt) Rz(tdrot)
EM motl    phi, theta, psi             Rz(psi) Rx(theta) Rz(phi)
=========  ==========================  ==================================================================

Tables that say of every particle that it is not turned, as most do that know no orientations, have none.

References
----------
S. H. W. Scheres (2012), RELION, J Struct Biol 180:519.  The conventions agree with those of the package copick (tests/copick).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

Convention = Literal["relion", "dynamo", "em"]
# axes as scipy names them (capitals: about turned axes), and whether the matrix is the inverse
_CONVENTIONS: dict[str, tuple[Literal["ZYZ", "zxz"], bool]] = {"relion": ("ZYZ", True), "dynamo": ("zxz", True), "em": ("zxz", False)}
_TOLERANCE = 1e-3  # of a rotation's entries, as text rounds them
_NOT_TURNED = 1e-9


def matrices(angles: np.ndarray, convention: Convention) -> np.ndarray:
    """Return the rotations (n, 3, 3) of angles (n, 3) in degrees; NaN where an angle is NaN."""
    from scipy.spatial.transform import Rotation  # noqa: PLC0415  (slow to import, and most tables have no angles)

    axes, is_inverse = _CONVENTIONS[convention]
    result = np.full((len(angles), 3, 3), np.nan)
    known = np.isfinite(angles).all(axis=1)
    if known.any():
        found = Rotation.from_euler(axes, angles[known], degrees=True)
        result[known] = (found.inv() if is_inverse else found).as_matrix()
    return result


def angles(rotation: np.ndarray, convention: Convention) -> np.ndarray:
    """Return the angles (n, 3) in degrees of rotations (n, 3, 3); NaN where a rotation is not known."""
    axes, is_inverse = _CONVENTIONS[convention]
    result = np.full((len(rotation), 3), np.nan)
    known = np.isfinite(rotation).all(axis=(1, 2))
    if known.any():
        found = as_rotation(rotation[known])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Gimbal lock")  # the third angle is 0 then, which is right
            result[known] = (found.inv() if is_inverse else found).as_euler(axes, degrees=True)
    return result


def as_rotation(rotation: np.ndarray) -> Rotation:
    """Return matrices (n, 3, 3), all known, as scipy's rotations."""
    from scipy.spatial.transform import Rotation  # noqa: PLC0415  (takes long to import, and few tables have orientations)

    return Rotation.from_matrix(rotation)


def known_or_none(rotation: np.ndarray) -> np.ndarray | None:
    """Return rotations; None where none is known, or every one that is known is the identity."""
    known = np.isfinite(rotation).all(axis=(1, 2))
    if not known.any() or (np.abs(rotation[known] - np.eye(3)) < _NOT_TURNED).all():
        return None
    return rotation


def are_rotations(matrix: np.ndarray) -> np.ndarray:
    """Which of the matrices (n, 3, 3) are rotations: orthonormal and right-handed, up to rounding."""
    product = matrix @ np.swapaxes(matrix, 1, 2)
    with np.errstate(invalid="ignore"):
        result: np.ndarray = (np.abs(product - np.eye(3)) < _TOLERANCE).all(axis=(1, 2)) & (np.linalg.det(matrix) > 0)
    return result


def or_identity(rotation: np.ndarray | None, count: int) -> np.ndarray:
    """Return rotations (count, 3, 3) with the identity where none is known."""
    result = np.tile(np.eye(3), (count, 1, 1))
    if rotation is not None:
        known = np.isfinite(rotation).all(axis=(1, 2))
        result[known] = rotation[known]
    return result
