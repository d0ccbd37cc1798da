"""Find the radial profile that best separates clicked particles from other correlation peaks (Fisher's discriminant).

The average profile of the clicks finds every dark object of about the right size; if the wanted species is rare, most picks are look-alikes.

1. In random boxes, take the peaks of the correlation with the average's kernel, which are what a picker would pick.
2. With m the mean profile of the clicks, b and S the mean and covariance of the peaks' profiles, and r their length, the weights are
   (S + shrinkage tr(S) / r I)^-1 (m - b).
3. Divide the weight of each distance equally among the voxels of its shell.
4. Used alone (`average`), the discriminant replaces the average only if it ranks left-out clicks clearly better among the peaks
   (`chosen_profile`).  For a filter that joins a network, `strategies.unet.pretrained.evidence` decides.

Some of the peaks are particles without a click.  They don't change the direction of the weights: with a fraction p of them, b moves towards m and S
becomes S0 + p (1 - p) d d^T with d = m - b0, and the inverse of that times d is a multiple of S0^-1 d (Sherman and Morrison).

References
----------
Fisher 1936, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 7.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from tomostream.geometry import Box, Triple
from tomostream.strategies.matched_filter.correlation import CorrelationScorer, Target, ball_of
from tomostream.strategies.matched_filter.kernels import profile_target
from tomostream.strategies.matched_filter.profile import Reader, click_profiles, radial_profile
from tomostream.strategies.matched_filter.sampled_correlation import PEAK_BOX_EDGE, correlations_in, peaks_of
from tomostream.strategies.sample_boxes import random_cubes

SHRINKAGE = 0.01  # multiple of the mean variance that is added to each variance
FEWEST_CLICKS = 3  # fewest clicks for the discriminant
PEAKS_A_DISTANCE = 5  # fewest peaks per distance for the discriminant, which needs their covariance
CLEARLY = 0.1  # by how much the mean logarithm of the left-out clicks' ranks must fall to prefer the discriminant
_BOXES = 48  # random boxes of all tomograms together


@dataclass(frozen=True, slots=True, eq=False)
class LearntProfile:
    """A radial profile to correlate with, and how it was made.

    Parameters
    ----------
    values
        Float64 (r,), at the distances 0, 1, 2 .. voxels.
    is_telling
        Whether it is the discriminant; otherwise it is the average.
    clicks, peaks
        Number of clicks and peaks from which it was made.
    """

    values: np.ndarray
    is_telling: bool
    clicks: int
    peaks: int

    def __str__(self) -> str:
        how = "the discriminant between clicks and other peaks" if self.is_telling else "the average of the clicks"
        return f"correlated with {how} ({self.clicks} clicks, {self.peaks} other peaks)"


def learnt_profile(
    shapes: Sequence[Triple],
    readers: Sequence[Reader],
    clicks: Sequence[Float64[np.ndarray, "_n 3"]],
    *,
    radius: float,
    support: float,
    floor: float,
    seed: int,
) -> LearntProfile:
    """Return the profile that finds a species on its own: the average of the clicks, or the discriminant if `chosen_profile` prefers it.

    Parameters
    ----------
    shapes, readers
        Shapes of the tomograms at the level that is read, and functions that read standardised boxes of them.
    clicks
        Clicks of each tomogram, z y x in voxels.
    radius, support
        Radius of the particle, and of the ball that is correlated, in voxels.
    floor, seed
        See `peak_profiles`.
    """
    rows, peaks = compared_profiles(shapes, readers, clicks, radius=radius, support=support, floor=floor, seed=seed)
    values, is_telling = chosen_profile(rows, peaks, support=support)
    return LearntProfile(values, is_telling, len(rows), len(peaks))


def compared_profiles(
    shapes: Sequence[Triple],
    readers: Sequence[Reader],
    clicks: Sequence[Float64[np.ndarray, "_n 3"]],
    *,
    radius: float,
    support: float,
    floor: float,
    seed: int,
) -> tuple[Float64[np.ndarray, "n r"], Float64[np.ndarray, "m r"]]:
    """Return the radial profiles of the recentred clicks, and of the peaks of the correlation with their mean; parameters as in `learnt_profile`."""
    rows = click_profiles(readers, clicks, radius=radius, support=support)
    target = profile_target(rows.mean(axis=0), support)
    return rows, peak_profiles(shapes, readers, target, radius=radius, length=rows.shape[1], floor=floor, seed=seed)


def telling_profile(clicks: Float64[np.ndarray, "n r"], peaks: Float64[np.ndarray, "m r"], *, support: float) -> Float64[np.ndarray, " r"]:
    """Return the discriminant, or the average of the clicks if there are too few clicks or peaks; parameters as in `discriminant_profile`."""
    return discriminant_profile(clicks, peaks, support=support) if _is_enough(clicks, peaks) else clicks.mean(axis=0)


def _is_enough(clicks: np.ndarray, peaks: np.ndarray) -> bool:
    return len(clicks) >= FEWEST_CLICKS and len(peaks) >= PEAKS_A_DISTANCE * clicks.shape[1]


def chosen_profile(
    clicks: Float64[np.ndarray, "n r"], peaks: Float64[np.ndarray, "m r"], *, support: float
) -> tuple[Float64[np.ndarray, " r"], bool]:
    """Return the average of the clicks, or the discriminant if it ranks left-out clicks clearly better; and whether it is the discriminant.

    Parameters
    ----------
    clicks, peaks, support
        See `discriminant_profile`.
    """
    average: Float64[np.ndarray, " r"] = clicks.mean(axis=0)
    if not _is_enough(clicks, peaks):
        return average, False
    plain, telling = 0.0, 0.0
    for left_out in range(len(clicks)):
        others = np.delete(clicks, left_out, axis=0)
        plain += _log_rank(others.mean(axis=0), clicks[left_out], peaks, support)
        telling += _log_rank(discriminant_profile(others, peaks, support=support), clicks[left_out], peaks, support)
    if telling > plain - CLEARLY * len(clicks):
        return average, False
    return discriminant_profile(clicks, peaks, support=support), True


def _log_rank(profile: np.ndarray, click: np.ndarray, peaks: np.ndarray, support: float) -> float:
    """Return log(1 + number of peaks that correlate better with a profile than a click does)."""
    shell = _shell_counts(support)
    weights = np.zeros(len(profile))
    weights[: len(shell)] = shell * (profile[: len(shell)] - (shell * profile[: len(shell)]).sum() / shell.sum())
    return float(np.log1p(np.count_nonzero(peaks @ weights > click @ weights)))


def discriminant_profile(
    clicks: Float64[np.ndarray, "n r"], peaks: Float64[np.ndarray, "m r"], *, support: float
) -> Float64[np.ndarray, " r"]:
    """Return the radial profile whose correlation best separates clicks from peaks.

    Parameters
    ----------
    clicks, peaks
        Radial profiles, one per row, at the distances 0, 1, 2 .. voxels.
    support
        Radius of the ball that is correlated, in voxels; larger distances are ignored.
    """
    half = math.floor(support)
    positive, negative = clicks[:, : half + 1], peaks[:, : half + 1]
    spread = np.atleast_2d(np.cov(negative.T))
    spread += SHRINKAGE * np.trace(spread) / len(spread) * np.eye(len(spread))
    weights = np.linalg.solve(spread, positive.mean(axis=0) - negative.mean(axis=0))
    profile = np.zeros(clicks.shape[1])
    profile[: half + 1] = weights / _shell_counts(support)
    profile[half + 1 :] = profile[half]
    return profile


def _shell_counts(support: float) -> np.ndarray:
    """Return the number of voxels of the ball at each distance, rounded; voxels beyond the last distance are added to it."""
    half = math.floor(support)
    squared = np.arange(-half, half + 1, dtype=np.float64) ** 2
    distance = np.sqrt(squared[:, None, None] + squared[None, :, None] + squared[None, None, :])[ball_of(half, support)]
    return np.bincount(np.minimum(np.rint(distance).astype(np.int64), half), minlength=half + 1)


def peak_profiles(
    shapes: Sequence[Triple], readers: Sequence[Reader], target: Target, *, radius: float, length: int, floor: float, seed: int
) -> Float64[np.ndarray, "m r"]:
    """Return the radial profiles at the peaks of a correlation in random boxes.

    Parameters
    ----------
    shapes, readers
        Shapes of the tomograms at the level that is read, and functions that read standardised boxes of them.
    target
        The kernel to correlate with.
    radius
        Radius of the particle, in voxels.
    length
        Number of distances of a profile.
    floor
        See `correlation`.
    seed
        Seed of the boxes.
    """
    rng = np.random.default_rng(seed)
    scorer = CorrelationScorer([target], floor=floor, threads=None)
    profiles: list[np.ndarray] = [np.empty((0, length))]
    for shape, read in zip(shapes, readers, strict=True):
        for box in random_cubes(shape, PEAK_BOX_EDGE, -(-_BOXES // len(shapes)), rng):
            picks = peaks_of(correlations_in(box, scorer, read, shape), radius)
            profiles.append(profiles_at(read, box, picks.index_zyx, length=length))
    return np.concatenate(profiles)


def profiles_at(read: Reader, box: Box, index_zyx: Int64[np.ndarray, "n 3"], *, length: int) -> Float64[np.ndarray, "n r"]:
    """Return the radial profiles around voxels of a box.

    Parameters
    ----------
    read
        Function that reads standardised boxes of the tomogram.
    box
        The box that holds the voxels.
    index_zyx
        The voxels, counted from the box's first voxel.
    length
        Number of distances of a profile.
    """
    half = length - 1
    around = read(box.expanded(half))
    profiles = [radial_profile(around[tuple(slice(i, i + 2 * half + 1) for i in index)]) for index in index_zyx.tolist()]
    return np.array(profiles, dtype=np.float64).reshape(-1, length)
