"""How high are the peaks at the clicks?  Clicks are particles at random, so their heights tell where among all peaks the particles lie.

Those that the model has learnt from may stand higher than others; those that were left out don't.
"""

from dataclasses import dataclass

import numpy as np

from tomostream.picking.peak_heights import LOST

LEAST = 5  # clicks that tell of a distribution


@dataclass(frozen=True, slots=True)
class ClickHeights:
    """The heights (`peak_heights`) of the highest peaks within a radius of the clicks; `LOST` where there is none.

    Parameters
    ----------
    learnt
        Of clicks that the model has learnt from.
    left_out
        Of clicks that it has not.
    unit
        What one height is there, in scores; None: not known.
    """

    learnt: tuple[float, ...]
    left_out: tuple[float, ...]
    unit: float | None = None

    @property
    def shape(self) -> "Shape | None":
        """How particles' heights are distributed, by the clicks that were left out, or else by all; None: they are too few, or no peaks."""
        own = self.left_out if len(self.left_out) >= LEAST else (*self.learnt, *self.left_out)
        return shape_of(np.array(own))


@dataclass(frozen=True, slots=True)
class Shape:
    """A guess of the normal distribution of particles' heights.

    Parameters
    ----------
    mean, deviation
        Of the distribution.
    weight
        The clicks that it is worth.
    doubt
        How far the mean may be off in another tomogram, standard deviation.
    """

    mean: float
    deviation: float
    weight: float
    doubt: float


_USUAL, _USUAL_WEIGHT = 0.25, 4.0  # deviation over mean, and the clicks that this knowledge is worth
_TRANSFER = 0.15  # of the mean: from one tomogram to another


def shape_of(heights: np.ndarray) -> Shape | None:
    """The distribution by some heights, robustly: two of ten clicks may be anything."""
    found = heights[heights > LOST]
    if len(found) < LEAST:
        return None
    mean = float(np.median(found))
    if mean <= 0:
        return None
    spread, count = 1.4826 * float(np.median(np.abs(found - mean))), len(found)
    deviation = float(np.sqrt((count * spread**2 + _USUAL_WEIGHT * (_USUAL * mean) ** 2) / (count + _USUAL_WEIGHT)))
    return Shape(mean, deviation, count + _USUAL_WEIGHT, float(np.hypot(_TRANSFER * mean, deviation / np.sqrt(count))))


def usual_shape(mean: float) -> Shape:
    """What is known of particles of this mean height, without clicks."""
    return Shape(mean, _USUAL * mean, 2 + _USUAL_WEIGHT, _USUAL * mean)
