"""Fit a linear head to the clicks: Fisher's discriminant of the backbone's features, with shrinkage.

    w = (S + shrinkage tr(S) / c I)^-1 (m - u),   S = (1 - a) S_u + a S_m

where m, S_m are mean and covariance of the clicks' features, and u, S_u those of unclicked places: half of them peaks of particles of any kind, half
random voxels.  The clicked species is among these peaks too, which does not change the direction of w (`strategies.matched_filter.discriminant`).

Clicks are off by a few voxels, and features change from voxel to voxel.  So each click is moved to where the head scores highest, within `SHIFT` of
the radius, and the head is fitted again; three times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

SHIFT = 0.35  # largest distance that a click is moved, in radii
_ROUNDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Unclicked:
    """Mean (c,) and covariance (c, c) of the features of unclicked places."""

    mean: Float64[np.ndarray, " c"]
    covariance: Float64[np.ndarray, "c c"]


def rejected_share(count: int) -> float:
    """Return the share of `count` rejected places in the statistics of unclicked places: a third for twenty places, less than half for any number."""
    return 0.5 * count / (count + 10)


def unclicked_of(
    peaks: Float64[np.ndarray, "n c"], voxels: Float64[np.ndarray, "m c"], rejected: Float64[np.ndarray, "r c"] | None = None
) -> Unclicked:
    """Compute the statistics of unclicked places.

    Parameters
    ----------
    peaks
        Features at peaks of particles of any kind; they get half of the weight.
    voxels
        Features at random voxels; they get the other half, or all of it if there are no peaks.
    rejected
        Features at rejected places.  They get the weight `rejected_share`, and the others the rest.
    """
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
    """Return the weights, and the score half-way between the means of clicks and unclicked places.

    Parameters
    ----------
    clicks
        Features, one row per click.
    unclicked
        Statistics of unclicked places.
    shrinkage
        Multiple of the mean variance that is added to the variance of every feature.
    own_share
        Weight of the clicks' covariance, between 0 and 1.
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
    """Fit the discriminant to clicks that are moved to where it scores highest; returns the result of `discriminant`.

    Parameters
    ----------
    around
        Features at the m positions to which each click may move.
    middle
        Index of the position that was clicked.
    unclicked, shrinkage, own_share
        See `discriminant`.
    """
    at = around[:, middle]
    for _ in range(_ROUNDS):
        weights, _ = discriminant(at, unclicked, shrinkage=shrinkage, own_share=own_share)
        at = around[np.arange(len(around)), (around @ weights).argmax(axis=1)]
    return discriminant(at, unclicked, shrinkage=shrinkage, own_share=own_share)


def steps_within(radius: float) -> tuple[np.ndarray, int]:
    """Return the steps (m, 3), in voxels, by which a click may move, and the index of the zero step.

    Steps are at most `SHIFT` radii long, or one voxel if that is more.
    """
    limit = max(1.0, SHIFT * radius)
    reach = int(limit)
    axis = np.arange(-reach, reach + 1)
    steps = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    steps = steps[(steps**2).sum(axis=1) <= limit**2]
    return steps, int(np.flatnonzero((steps == 0).all(axis=1))[0])
