"""The radial profiles of balls and shells, and which of them finds the clicks.

1. Candidates: a ball of the particle's radius, and shells that end there, of `THICKNESSES` radii; dark and bright.
2. Each is correlated with the clicks, and with boxes at random.  Chosen is the one whose correlation at the clicks is largest, compared with the background's 95th
   percentile.  The dark ball is chosen unless another is clearly better: a few clicks are no reason for more.

Limits: one radius; no particle is a sphere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from tomostream.strategies.matched_filter.scale import Scale

THICKNESSES = (0.25, 0.45)  # of shells, radii
CLEARLY = 1.15  # times the dark ball's ratio of clicks and background
_LEAST_BACKGROUND = 0.01  # correlation


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


def chosen(scales: Sequence[Scale]) -> Shape:
    """The shape whose clicks stand out most; `scales` are those of `SHAPES`."""
    ratios = [scale.clicks / max(scale.background, _LEAST_BACKGROUND) for scale in scales]
    best = int(np.argmax(ratios))
    return SHAPES[best] if ratios[best] > CLEARLY * max(ratios[0], 0.0) else SHAPES[0]
