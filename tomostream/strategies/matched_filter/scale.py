"""The scale that turns correlations into logits, set on the clicks.

Correlations of different kernels have different ranges.  So that 0.5 means something, the scale is set where training is: logit -2 at
the 95th percentile of the voxels of boxes at random, +2 at the median of the clicks (the best voxel near each).  It is monotone, and
changes no order of picks.

Limits: the scale is that of the clicks' tomograms; it is no calibrated probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tomostream.geometry import Box, triple
from tomostream.strategies.matched_filter.correlation import CorrelationScorer, Target
from tomostream.strategies.matched_filter.profile import SHIFT
from tomostream.tomogram import Tomogram

_BACKGROUND_BOXES = 2  # a tomogram


_BACKGROUND_EDGE = 32  # voxels


_BACKGROUND_QUANTILE = 0.95


_LOGIT = 2.0  # at the clicks; minus that at the background's quantile


_LEAST_GAP = 0.02  # between them, where clicks are no better than the background


@dataclass(frozen=True, slots=True)
class Scale:
    """How clicks and background correlate, for one species."""

    clicks: float
    background: float

    @property
    def offset(self) -> float:
        """The correlation at which the logit is 0."""
        return (self.clicks + self.background) / 2

    @property
    def slope(self) -> float:
        """Logits per unit of correlation."""
        return 2 * _LOGIT / max(self.clicks - self.background, _LEAST_GAP)


def measure_scales(
    targets: Sequence[Target],
    tomograms: Sequence[Tomogram],
    points: Sequence[Sequence[np.ndarray]],
    radii: Sequence[float],
    *,
    floor: float,
    seed: int,
) -> list[Scale]:
    """Correlate the clicks, and boxes at random.

    Parameters
    ----------
    targets
        One per species.
    tomograms
        Standardised, at the level that is read.
    points
        The clicks of each tomogram and species, voxels z y x.
    radii
        Of the species, voxels.
    floor
        See `correlation`.
    seed
        Of the boxes.
    """
    rng = np.random.default_rng(seed)
    boxes = [[_random_box(tomogram, rng) for _ in range(_BACKGROUND_BOXES)] for tomogram in tomograms]
    scales: list[Scale] = []
    for number, (target, radius) in enumerate(zip(targets, radii, strict=True)):
        # many small boxes: orientations are made once
        scorer = CorrelationScorer([replace(target, kernels=list(target.kernels))], floor=floor, threads=None)
        reach = max(1, round(SHIFT * radius))
        clicked: list[float] = []
        background: list[np.ndarray] = []
        for tomogram, own, random_boxes in zip(tomograms, points, boxes, strict=True):
            for point in own[number]:
                centre = triple([round(float(p)) for p in point])
                near = Box(centre, triple([c + 1 for c in centre])).expanded(reach).clipped(Box.whole(tomogram.shape))
                clicked.append(float(_correlations(scorer, tomogram, near).max()))
            background += [_correlations(scorer, tomogram, box).ravel() for box in random_boxes]
        quantile = float(np.quantile(np.concatenate(background), _BACKGROUND_QUANTILE))
        scales.append(Scale(clicks=float(np.median(clicked)) if clicked else quantile, background=quantile))
    return scales


def _random_box(tomogram: Tomogram, rng: np.random.Generator) -> Box:
    edges = [min(_BACKGROUND_EDGE, n) for n in tomogram.shape]
    start = triple([int(rng.integers(0, n - e + 1)) for n, e in zip(tomogram.shape, edges, strict=True)])
    return Box(start, triple([a + e for a, e in zip(start, edges, strict=True)]))


def _correlations(scorer: CorrelationScorer, tomogram: Tomogram, needed: Box) -> np.ndarray:
    read = scorer.read_box(needed, tomogram.shape)
    found: np.ndarray = scorer.correlations(tomogram.read_standardised(read), read, needed, tomogram.shape)[0]
    return found
