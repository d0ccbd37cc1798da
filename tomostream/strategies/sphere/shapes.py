"""The radial profiles of balls and shells, and which of them finds the clicks.

1. Candidates: a ball of the particle's radius, and shells that end there, of `THICKNESSES` radii; dark and bright.
2. Each is correlated with the clicks, and with boxes at random.  What a shape costs is the mean logarithm of the clicks' ranks among the peaks there: a picker would
   take those peaks first.  Shapes that cost clearly more than the cheapest are out.
3. Of the others the one with which the clicks correlate best; the dark ball, unless another is clearly better: a few clicks are no reason for more.

Limits: one radius; no particle is a sphere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

THICKNESSES = (0.25, 0.45)  # of shells, radii
CLEARLY = 0.5  # by how much a cost is clearly higher
BETTER = 1.05  # times the dark ball's correlation


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


@dataclass(frozen=True, slots=True)
class Trial:
    """How a shape does: what it costs, and its correlation with the clicks."""

    cost: float
    correlation: float


def trial_of(clicks: Float64[np.ndarray, " n"], peaks: Float64[np.ndarray, " m"]) -> Trial:
    """Judge a shape by its correlations: at each click, and at the peaks of boxes at random."""
    if not len(clicks):
        return Trial(0.0, 0.0)
    above = len(peaks) - np.searchsorted(np.sort(peaks), clicks, side="right")
    return Trial(float(np.log1p(above).mean()), float(np.median(clicks)))


def chosen(trials: Sequence[Trial]) -> Shape:
    """The shape that does best; `trials` are those of `SHAPES`."""
    allowed = min(one.cost for one in trials) + CLEARLY
    found = [one.correlation if one.cost <= allowed else -1.0 for one in trials]
    best = int(np.argmax(found))
    return SHAPES[best] if found[best] > BETTER * max(found[0], 0.0) else SHAPES[0]
