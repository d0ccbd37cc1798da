"""Make a quasi-uniform set of rotations with a given spacing.

The volume of the space of rotations, in the metric of the rotation angle, is 8 pi^2.  With one rotation per cube of edge `step` this gives
8 pi^2 / step^3 rotations (551 for 30 degrees).  Super-Fibonacci spirals spread that many unit quaternions evenly, without randomness.

References
----------
Alexa 2022, "Super-Fibonacci spirals: fast, low-discrepancy sampling of SO(3)", CVPR.
"""

import math

import numpy as np
from scipy.spatial.transform import Rotation

from tomostream.errors import InputError

_PHI = math.sqrt(2)
_PSI = 1.533751168755204288118041  # the positive root of x^4 = x + 4
FINEST_DEG = 5.0  # smallest step


def rotation_set(step_deg: float) -> Rotation:
    """Return quasi-uniform rotations.

    Parameters
    ----------
    step_deg
        Approximate angle between neighbours, 5 to 180 degrees.

    Raises
    ------
    InputError
        If the step is out of range.
    """
    if not FINEST_DEG <= step_deg <= 180:
        raise InputError(f"template.angle_step must be {FINEST_DEG:g} to 180 degrees, found {step_deg:g}")
    count = max(1, math.ceil(8 * math.pi**2 / math.radians(step_deg) ** 3))
    at = np.arange(count) + 0.5
    inner, outer = np.sqrt(at / count), np.sqrt(1 - at / count)
    alpha, beta = 2 * np.pi * at / _PHI, 2 * np.pi * at / _PSI
    return Rotation.from_quat(np.stack([inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)], axis=1))
