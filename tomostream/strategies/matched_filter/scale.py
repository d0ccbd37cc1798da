"""Set the scale that turns correlations into logits.

Correlations of different kernels have different ranges.  To give a score of 0.5 a meaning, the scale is set on the clicked tomograms: the logit is
-2 at the 95th percentile of the voxels in random boxes, and 2 at the median of the clicks (the best voxel near each).  The scale is linear, so it
does not change the order of picks.

Limits: the scale holds for the clicked tomograms, and scores are not calibrated probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tomostream.strategies.matched_filter.correlation import CorrelationScorer, Target
from tomostream.strategies.matched_filter.sampled_correlation import correlation_of_click, correlations_in
from tomostream.strategies.sample_boxes import random_cube
from tomostream.tomogram import Tomogram

_BACKGROUND_BOXES = 2  # random boxes per tomogram
_BACKGROUND_EDGE = 32  # edge of a random box, voxels
_BACKGROUND_QUANTILE = 0.95
_LOGIT = 2.0  # logit at the clicks; the background's quantile gets its negative
_LEAST_GAP = 0.02  # smallest difference of correlation assumed between clicks and background, so that the slope stays finite and positive


@dataclass(frozen=True, slots=True)
class Scale:
    """The scale of one species, from the correlations of its clicks and of the background."""

    clicks: float
    background: float

    @property
    def offset(self) -> float:
        """Correlation at which the logit is 0."""
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
    """Measure the scale of each species on its clicks and on random boxes.

    Parameters
    ----------
    targets
        One per species.
    tomograms
        Tomograms at the level that is read.
    points
        [tomogram][species]: clicks, z y x in voxels.
    radii
        Radii of the species, in voxels.
    floor
        See `correlation`.
    seed
        Seed of the random boxes.
    """
    rng = np.random.default_rng(seed)
    boxes = [[random_cube(tomogram.shape, _BACKGROUND_EDGE, rng) for _ in range(_BACKGROUND_BOXES)] for tomogram in tomograms]
    scales: list[Scale] = []
    for number, (target, radius) in enumerate(zip(targets, radii, strict=True)):
        # a list, so that the kernels of all orientations are made once and not for each box
        scorer = CorrelationScorer([replace(target, kernels=list(target.kernels))], floor=floor, threads=None)
        clicked: list[float] = []
        background: list[np.ndarray] = []
        for tomogram, own, random_boxes in zip(tomograms, points, boxes, strict=True):
            read, shape = tomogram.read_standardised, tomogram.shape
            clicked += [correlation_of_click(point, radius, scorer, read, shape) for point in own[number]]
            background += [correlations_in(box, scorer, read, shape).ravel() for box in random_boxes]
        quantile = float(np.quantile(np.concatenate(background), _BACKGROUND_QUANTILE))
        scales.append(Scale(clicks=float(np.median(clicked)) if clicked else quantile, background=quantile))
    return scales
