"""The radial profile of a place, relative to its surroundings: the mean of each shell of a ball, less the ball's mean, over the ball's deviation.

    profile_b(x) = (mean of shell b - mean of the ball) / sqrt(variance of the ball + floor^2)

The shells have equal width, at least one voxel.  Beyond the volume voxels are 0, its mean.  A weighted sum of a profile is a normalised
cross-correlation with a radial kernel (`matched_filter.correlation`), so it can be computed everywhere at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from tomostream.geometry import Box
from tomostream.strategies.matched_filter.correlation import Target, ball_of, normalised_kernel
from tomostream.strategies.matched_filter.profile import Reader, distances_from_middle

MOST_SHELLS = 7


def shells_of(support: float) -> int:
    """Return the number of shells of a ball of `support` voxels."""
    return max(1, min(MOST_SHELLS, math.floor(support)))


def profiles_at(read: Reader, places: Int64[np.ndarray, "n 3"], *, support: float, floor: float) -> Float64[np.ndarray, "n b"]:
    """Return the profiles of places.

    Parameters
    ----------
    read
        Function that reads standardised boxes; voxels outside of the volume are 0.
    places
        Voxels z y x.
    support
        Radius of the ball, in voxels.
    floor
        Lower bound of the deviation, as in `CorrelationScorer`.
    """
    half = math.floor(support)
    ball = ball_of(half, support)
    shell = _shell_numbers(half, support)[ball]
    counts = np.maximum(np.bincount(shell, minlength=shells_of(support)), 1)
    result = np.empty((len(places), len(counts)))
    for row, (z, y, x) in zip(result, places.tolist(), strict=True):
        values = read(Box((z - half, y - half, x - half), (z + half + 1, y + half + 1, x + half + 1)))[ball].astype(np.float64)
        mean = values.mean()
        row[:] = (np.bincount(shell, values, len(counts)) / counts - mean) / math.sqrt(
            max(values.var() + floor**2, np.finfo(np.float32).tiny)
        )
    return result


def shell_target(weights: Sequence[float], support: float) -> Target:
    """Return the target whose logits are the weighted sums of profiles.

    Parameters
    ----------
    weights
        One per shell.
    support
        Radius of the ball, in voxels.
    """
    half = math.floor(support)
    ball, shell = ball_of(half, support), _shell_numbers(half, support)
    counts = np.bincount(shell[ball], minlength=len(weights))
    values = np.where(ball, (np.asarray(weights) / np.maximum(counts, 1))[np.minimum(shell, len(weights) - 1)], 0.0)
    centred = np.where(ball, values - values[ball].mean(), 0.0)
    slope = math.sqrt(float((centred**2).sum()) * np.count_nonzero(ball))
    return Target([normalised_kernel(values.astype(np.float32), support)], half=half, radius=support, offset=0.0, slope=slope)


def _shell_numbers(half: int, support: float) -> Int64[np.ndarray, "z y x"]:
    """Return the shell of each voxel of a cube; outside of the ball the numbers mean nothing."""
    count = shells_of(support)
    return np.minimum((distances_from_middle(half) / (support / count)).astype(np.int64), count - 1)
