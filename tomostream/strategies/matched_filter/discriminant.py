"""The radial profile that best separates clicked particles from other correlation peaks (Fisher's discriminant).

The average's profile alone finds every dark thing of about that size: where the wanted species is rare, its look-alikes fill the picks.

1. In random boxes, take the peaks of the correlation with the average's kernel: what a picker would pick.
2. With m the clicks' mean profile, b and S the peaks' mean and covariance, the weights are (S + shrinkage tr(S) / r I)^-1 (m - b).
3. A distance's weight is shared by the voxels of its shell.
4. Joined to a network (`strategies.unet.fusion_fit`) it is always used.  Alone (`average`), only where it ranks the clicks clearly better: each click, left out
   of the weights, among the peaks.

Some peaks are particles without a click.  They don't turn the weights: with a share p of them, b moves towards m and S becomes
S0 + p (1 - p) d d^T with d = m - b0, and the inverse of that times d is S0^-1 d times a number (Sherman and Morrison).

References
----------
Fisher 1936, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 7.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from tomostream.geometry import Box, Triple, triple
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.strategies.matched_filter.correlation import CorrelationScorer, Target, ball_of
from tomostream.strategies.matched_filter.kernels import profile_target
from tomostream.strategies.matched_filter.profile import Reader, click_profiles, radial_profile

SHRINKAGE = 0.01
FEWEST_CLICKS = 3  # that give a mean
PEAKS_A_DISTANCE = 5  # fewer peaks than this for each distance do not give a covariance
CLEARLY = 0.1  # by how much the mean logarithm of the left-out clicks' ranks must fall
_BOXES = 48  # at random, of all tomograms together
_EDGE = 64  # voxels
_APART = 0.8  # least distance of peaks, radii
_CROWDED = 0.4  # peaks that are looked at: so many balls of the particle's radius would fill this share of the box
_MEMORY = 200_000_000  # of picking in a box: far more than it takes


@dataclass(frozen=True, slots=True, eq=False)
class LearntProfile:
    """A profile to correlate with: float64 (r,), at the distances 0, 1, 2 .. voxels; whether it is the discriminant; and from how many clicks and peaks."""

    values: np.ndarray
    is_telling: bool
    clicks: int
    peaks: int

    def __str__(self) -> str:
        how = "what tells it from other peaks" if self.is_telling else "its average"
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
    """Return the profile that finds the clicked species on its own: its average, or the discriminant where look-alikes call for it.

    Parameters
    ----------
    shapes, readers
        Of the standardised tomograms, at the level that is read.
    clicks
        Of each tomogram, voxels z y x.
    radius, support
        Of the particle and of the ball that is compared, voxels.
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
    """Return the clicks' radial profiles, recentred, and those of the peaks of the correlation with their mean; parameters as of `learnt_profile`."""
    rows = click_profiles(readers, clicks, radius=radius, support=support)
    target = profile_target(rows.mean(axis=0), support)
    return rows, peak_profiles(shapes, readers, target, radius=radius, length=rows.shape[1], floor=floor, seed=seed)


def telling_profile(clicks: Float64[np.ndarray, "n r"], peaks: Float64[np.ndarray, "m r"], *, support: float) -> Float64[np.ndarray, " r"]:
    """Return the discriminant, or the clicks' average where they or the peaks are too few for it; parameters as of `discriminant_profile`."""
    return discriminant_profile(clicks, peaks, support=support) if _is_enough(clicks, peaks) else clicks.mean(axis=0)


def _is_enough(clicks: np.ndarray, peaks: np.ndarray) -> bool:
    return len(clicks) >= FEWEST_CLICKS and len(peaks) >= PEAKS_A_DISTANCE * clicks.shape[1]


def chosen_profile(
    clicks: Float64[np.ndarray, "n r"], peaks: Float64[np.ndarray, "m r"], *, support: float
) -> tuple[Float64[np.ndarray, " r"], bool]:
    """Return the average's profile, or the discriminant's where it ranks left-out clicks clearly better; and whether it does.

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
    """Logarithm of a click's rank among the peaks, by their correlation with a profile."""
    shell = _shell_counts(support)
    weights = np.zeros(len(profile))
    weights[: len(shell)] = shell * (profile[: len(shell)] - (shell * profile[: len(shell)]).sum() / shell.sum())
    return float(np.log1p(np.count_nonzero(peaks @ weights > click @ weights)))


def discriminant_profile(
    clicks: Float64[np.ndarray, "n r"], peaks: Float64[np.ndarray, "m r"], *, support: float
) -> Float64[np.ndarray, " r"]:
    """Return the radial function whose correlation best separates clicks from peaks.

    Parameters
    ----------
    clicks, peaks
        Radial profiles, one per row; at the distances 0, 1, 2 .. voxels.
    support
        Radius of the ball that is compared, voxels; distances beyond have no weight.
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
    """Number of the ball's voxels at each distance, to the nearest voxel; those beyond the last belong to it."""
    half = math.floor(support)
    squared = np.arange(-half, half + 1, dtype=np.float64) ** 2
    distance = np.sqrt(squared[:, None, None] + squared[None, :, None] + squared[None, None, :])[ball_of(half, support)]
    return np.bincount(np.minimum(np.rint(distance).astype(np.int64), half), minlength=half + 1)


def peak_profiles(
    shapes: Sequence[Triple], readers: Sequence[Reader], target: Target, *, radius: float, length: int, floor: float, seed: int
) -> Float64[np.ndarray, "m r"]:
    """Radial profiles at the peaks of the correlation, in boxes at random.

    Parameters
    ----------
    shapes, readers
        Of the standardised tomograms, at the level that is read.
    target
        Whose correlation has the peaks.
    radius
        Of the particle, voxels.
    length
        Number of distances of a profile.
    floor
        See `correlation`.
    seed
        Of the boxes.
    """
    rng = np.random.default_rng(seed)
    scorer = CorrelationScorer([target], floor=floor, threads=None)
    profiles: list[np.ndarray] = [np.empty((0, length))]
    for shape, read in zip(shapes, readers, strict=True):
        edges = [min(_EDGE, n) for n in shape]
        wanted = min(-(-_BOXES // len(shapes)), math.ceil(math.prod(shape) / math.prod(edges)))
        for _ in range(wanted):
            start = [int(rng.integers(0, n - e + 1)) for n, e in zip(shape, edges, strict=True)]
            box = Box(triple(start), triple([a + e for a, e in zip(start, edges, strict=True)]))
            inside = scorer.read_box(box, shape)
            scores = scorer.correlations(read(inside), inside, box, shape)[0]
            count = max(1, round(_CROWDED * box.size / (4 / 3 * math.pi * radius**3)))
            picks = pick_array(scores, radius=_APART * radius, how_many=Best(count), memory=_MEMORY)
            profiles.append(profiles_at(read, box, picks.index_zyx, length=length))
    return np.concatenate(profiles)


def profiles_at(read: Reader, box: Box, index_zyx: Int64[np.ndarray, "n 3"], *, length: int) -> Float64[np.ndarray, "n r"]:
    """Radial profiles around voxels.

    Parameters
    ----------
    read
        Of the standardised tomogram.
    box
        That holds the voxels.
    index_zyx
        In the box.
    length
        Number of distances of a profile.
    """
    half = length - 1
    around = read(box.expanded(half))
    profiles = [radial_profile(around[tuple(slice(i, i + 2 * half + 1) for i in index)]) for index in index_zyx.tolist()]
    return np.array(profiles, dtype=np.float64).reshape(-1, length)
