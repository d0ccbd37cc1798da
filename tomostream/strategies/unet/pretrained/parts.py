"""Records of few-shot learning (boxes with features, clicks, profiles, the result), and arithmetic on features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from tomostream.geometry import Box
from tomostream.strategies.unet.pretrained.evidence import Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A box of a tomogram with its features, float16 (c, z, y, x); c is 0 without a backbone.  `tomogram` is the index of the tomogram."""

    tomogram: int
    box: Box
    features: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Clicks:
    """The clicks of a species (z y x, in voxels), a box with features around each, and the indices `judged` of those that are left out in turn.

    The box of a judged click is wide enough to find peaks in; that of another click covers only the positions to which it may move.
    """

    points: list[Float64[np.ndarray, " 3"]]
    parts: list[Part]
    judged: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Profiles:
    """Radial profiles of the clicks, one row per click in their order, and of other peaks."""

    clicks: np.ndarray
    peaks: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The chosen way of scoring a species, made from its clicks."""

    verdict: Verdict
    weights: np.ndarray  # weights (c,) of the head; zeros without a head
    bias: float  # bias of the head
    profile: np.ndarray  # radial profile of the filter
    slope: float  # logits per unit of correlation
    intercept: float  # logits added to the sum of head and filter


def linear(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the maps (s, z, y, x) that weights (s, c) make of features; plane by plane, because float16 features must be converted to float32."""
    result = np.empty((len(weights), *features.shape[1:]), dtype=np.float32)
    for z in range(features.shape[1]):
        result[:, z] = np.tensordot(weights.astype(np.float32), features[:, z].astype(np.float32), axes=1)
    return result


def features_at(features: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the features (n, c) at voxels (n, 3); voxels outside are replaced by the nearest inside."""
    index = np.clip(np.asarray(index).astype(np.int64), 0, np.array(features.shape[1:]) - 1)
    return np.asarray(features[:, index[:, 0], index[:, 1], index[:, 2]].T, dtype=np.float64)


def deviation_of(parts: Sequence[np.ndarray]) -> float:
    """Return the standard deviation of all values together; never 0."""
    return max(float(np.std(np.concatenate([part.ravel() for part in parts]), dtype=np.float64)), 1e-6)


def in_deviations(maps: list[np.ndarray], measured: int) -> list[np.ndarray]:
    """Divide maps by the standard deviation of the first `measured` of them."""
    deviation = np.float32(deviation_of(maps[:measured]))
    return [one / deviation for one in maps]
