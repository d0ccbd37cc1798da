"""Radial profiles of balls and shells, and the choice of the one that finds the clicks.

1. The candidates are a ball of the particle's radius, and shells with that outer radius and a wall of `THICKNESSES` radii; each dark and bright.
2. Each is correlated with the clicks and with random boxes.  The cost of a shape is the mean logarithm of the clicks' ranks among the peaks in these
   boxes, which a picker would take first.  Shapes that cost clearly more than the cheapest are excluded.
3. Of the remaining shapes the one that correlates best with the clicks is taken, but the dark ball if no other is clearly better: a few clicks don't
   justify a finer choice.

Limits: there is a single radius, and particles are not spheres.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

THICKNESSES = (0.25, 0.45)  # thickness of the shells' walls, radii
CLEARLY = 0.5  # a shape is excluded if it costs more than the cheapest by this
BETTER = 1.05  # a shape is clearly better than the dark ball if its correlation is higher by this factor


@dataclass(frozen=True, slots=True)
class Shape:
    """A ball (thickness 1) or a shell.

    Parameters
    ----------
    thickness
        Thickness of the wall, in radii.
    is_bright
        Whether the wall is brighter than its surroundings.
    """

    thickness: float
    is_bright: bool

    def profile(self, radius: float, length: int) -> Float64[np.ndarray, " r"]:
        """Return the density at the distances 0, 1, 2 .. voxels: 1 or -1 in the wall, 0 elsewhere, with a ramp of one voxel at each border."""
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
    """The result of trying a shape: its cost, and its median correlation with the clicks."""

    cost: float
    correlation: float


def trial_of(clicks: Float64[np.ndarray, " n"], peaks: Float64[np.ndarray, " m"]) -> Trial:
    """Judge a shape by its correlations at the clicks and at the peaks in random boxes; without clicks, both values are 0."""
    if not len(clicks):
        return Trial(0.0, 0.0)
    above = len(peaks) - np.searchsorted(np.sort(peaks), clicks, side="right")
    return Trial(float(np.log1p(above).mean()), float(np.median(clicks)))


def chosen(trials: Sequence[Trial]) -> Shape:
    """Choose a shape by the trials of all `SHAPES`, in their order."""
    allowed = min(one.cost for one in trials) + CLEARLY
    found = [one.correlation if one.cost <= allowed else -1.0 for one in trials]
    best = int(np.argmax(found))
    return SHAPES[best] if found[best] > BETTER * max(found[0], 0.0) else SHAPES[0]
