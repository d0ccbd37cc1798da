"""Correlate a kernel with parts of a volume only: around clicks, and at the peaks of random boxes.

The peaks of a box are those that a picker would take first there, so they tell what a click competes with.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64

from tomostream.geometry import Box, Triple, triple
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.picking.protocol import Picks
from tomostream.strategies.matched_filter.correlation import CorrelationScorer
from tomostream.strategies.matched_filter.profile import SHIFT

PEAK_BOX_EDGE = 64  # edge of a random box in which peaks are sought, voxels
_APART = 0.8  # smallest distance between peaks, radii
_CROWDED = 0.4  # number of peaks per box: balls of the particle's radius around them would fill this fraction of it
_MEMORY = 200_000_000  # budget of picking in a box, bytes; far more than it takes


def correlations_in(box: Box, scorer: CorrelationScorer, read: Callable[[Box], np.ndarray], shape: Triple) -> Float32[np.ndarray, "z y x"]:
    """Return the correlations with the scorer's first target in a box.

    Parameters
    ----------
    box
        The box, inside the volume.
    scorer
        Scorer of the kernel.
    read
        Function that reads standardised boxes of the volume.
    shape
        Shape of the volume.
    """
    needed = scorer.read_box(box, shape)
    found: np.ndarray = scorer.correlations(read(needed), needed, box, shape)[0]
    return found


def correlation_of_click(
    click: Float64[np.ndarray, " 3"], radius: float, scorer: CorrelationScorer, read: Callable[[Box], np.ndarray], shape: Triple
) -> float:
    """Return the highest correlation near a click (z y x in voxels), no further from it than clicks are recentred; the rest as `correlations_in`."""
    centre = triple([round(float(p)) for p in click])
    near = Box(centre, triple([c + 1 for c in centre])).expanded(max(1, round(SHIFT * radius))).clipped(Box.whole(shape))
    return float(correlations_in(near, scorer, read, shape).max())


def peaks_of(correlations: Float32[np.ndarray, "z y x"], radius: float) -> Picks:
    """Return the highest peaks of a box, as many as a crowded volume would hold particles of the radius, in voxels."""
    count = max(1, round(_CROWDED * correlations.size / (4 / 3 * math.pi * radius**3)))
    return pick_array(correlations, radius=_APART * radius, how_many=Best(count), memory=_MEMORY)
