"""How do ten clicks become a classifier?  By Fisher's discriminant in the backbone's features, shrunk towards a sphere.

    w = (S + shrinkage tr(S) / c I)^-1 (m - u),   S = (1 - a) S_u + a S_m

with m, S_m mean and covariance of the clicks' features, u, S_u those of what nobody clicked: half of it peaks of anything, half voxels at
random.  The clicked species is among the peaks; that does not turn the weights (`strategies.matched_filter.discriminant`).

Clicks are off by a few voxels, and features change within one: each click is moved to where the head scores best, no farther than `SHIFT`
of the radius, and the head is fitted again; three times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

SHIFT = 0.35  # farthest that a click is moved, of the particle's radius
_ROUNDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Unclicked:
    """Mean (c,) and covariance (c, c) of the features of what nobody clicked."""

    mean: Float64[np.ndarray, " c"]
    covariance: Float64[np.ndarray, "c c"]


def rejected_share(count: int) -> float:
    """Share of what nobody clicked that so many rejected places have: a third for twenty, a half at most."""
    return 0.5 * count / (count + 10)


def unclicked_of(
    peaks: Float64[np.ndarray, "n c"], voxels: Float64[np.ndarray, "m c"], rejected: Float64[np.ndarray, "r c"] | None = None
) -> Unclicked:
    """Half peaks of anything, half voxels at random; without peaks, voxels alone; less the share of the rejected places."""
    rows = np.concatenate([peaks, voxels])
    weight = np.full(len(rows), 1 / len(rows))
    if len(peaks):
        weight[: len(peaks)], weight[len(peaks) :] = 0.5 / len(peaks), 0.5 / len(voxels)
    if rejected is not None and len(rejected):
        share = rejected_share(len(rejected))
        rows = np.concatenate([rows, rejected])
        weight = np.concatenate([(1 - share) * weight, np.full(len(rejected), share / len(rejected))])
    mean = weight @ rows
    off = rows - mean
    return Unclicked(mean, (weight[:, None] * off).T @ off)


def discriminant(
    clicks: Float64[np.ndarray, "k c"], unclicked: Unclicked, *, shrinkage: float, own_share: float
) -> tuple[Float64[np.ndarray, " c"], float]:
    """Weights, and the score half-way between clicks and what nobody clicked.

    Parameters
    ----------
    clicks
        Features, one click a row.
    shrinkage
        Of the mean variance, added to every feature's.
    own_share
        Of the clicks' covariance, between 0 and 1.
    """
    mean = clicks.mean(axis=0)
    off = clicks - mean
    spread = (1 - own_share) * unclicked.covariance + own_share * (off.T @ off) / len(clicks)
    spread = spread + (shrinkage * np.trace(spread) / len(spread) + 1e-6) * np.eye(len(spread))
    weights: np.ndarray = np.linalg.solve(spread, mean - unclicked.mean)
    return weights, float(weights @ (mean + unclicked.mean)) / 2


def fitted(
    around: Float64[np.ndarray, "k m c"], middle: int, unclicked: Unclicked, *, shrinkage: float, own_share: float
) -> tuple[Float64[np.ndarray, " c"], float]:
    """The discriminant of clicks that are moved to where it scores best.

    Parameters
    ----------
    around
        Features at the places to which each click may move.
    middle
        The place where it was clicked.
    """
    at = around[:, middle]
    for _ in range(_ROUNDS):
        weights, _ = discriminant(at, unclicked, shrinkage=shrinkage, own_share=own_share)
        at = around[np.arange(len(around)), (around @ weights).argmax(axis=1)]
    return discriminant(at, unclicked, shrinkage=shrinkage, own_share=own_share)


def steps_within(radius: float) -> tuple[np.ndarray, int]:
    """Voxel steps (m, 3) of at most `SHIFT` radii, but at least to the next voxel; and the number of the step that stays."""
    limit = max(1.0, SHIFT * radius)
    reach = int(limit)
    axis = np.arange(-reach, reach + 1)
    steps = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    steps = steps[(steps**2).sum(axis=1) <= limit**2]
    return steps, int(np.flatnonzero((steps == 0).all(axis=1))[0])
