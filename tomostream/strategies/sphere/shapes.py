"""The radial profiles of balls and shells, and which of them finds the clicks.

1. Candidates: a ball of the particle's radius, and shells that end there, of `THICKNESSES` radii; dark and bright.
2. Each is correlated with the clicks, and with boxes at random.  What a shape costs is the mean logarithm of the clicks' ranks among the peaks there: a picker would
   take those peaks first.
3. The dark ball is chosen unless another costs clearly less: a few clicks are no reason for more.

Limits: one radius; no particle is a sphere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

THICKNESSES = (0.25, 0.45)  # of shells, radii
CLEARLY = 0.2  # by how much the cost must be less than the dark ball's


@dataclass(frozen=True, slots=True)
class Shape:
    """A ball (thickness 1), or a shell.

    Parameters
    ----------
    thickness
        Of the wall, radii.
    is_bright
        Whether it is brighter than what is around.
    """

    thickness: float
    is_bright: bool

    def profile(self, radius: float, length: int) -> Float64[np.ndarray, " r"]:
        """Density at the distances 0, 1, 2 .. voxels: 1 or -1 in the wall, 0 outside, and half a voxel's ramp on each side of a border."""
        distance = np.arange(length, dtype=np.float64)
        outer = np.clip(radius + 0.5 - distance, 0, 1)
        inner = 1.0 if self.thickness >= 1 else np.clip(distance - (1 - self.thickness) * radius + 0.5, 0, 1)
        wall: np.ndarray = outer * inner
        return wall if self.is_bright else -wall

    def __str__(self) -> str:
        what = "ball" if self.thickness >= 1 else f"shell of {self.thickness:g} radii"
        return f"a {'bright' if self.is_bright else 'dark'} {what}"


SHAPES = (Shape(1.0, False), Shape(1.0, True), *(Shape(t, is_bright) for t in THICKNESSES for is_bright in (False, True)))


def cost_of(clicks: Float64[np.ndarray, " n"], peaks: Float64[np.ndarray, " m"]) -> float:
    """Mean logarithm of the clicks' ranks among peaks, by their correlations; 0 where all clicks are above all peaks, or there are none."""
    above = len(peaks) - np.searchsorted(np.sort(peaks), clicks, side="right")
    return float(np.log1p(above).mean()) if len(clicks) else 0.0


def chosen(costs: Sequence[float]) -> Shape:
    """The shape that costs least; `costs` are those of `SHAPES`."""
    best = int(np.argmin(costs))
    return SHAPES[best] if costs[best] < costs[0] - CLEARLY else SHAPES[0]
