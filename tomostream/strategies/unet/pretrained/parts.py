"""Values of a few-shot training: features of boxes, clicks, profiles, what was found; and arithmetic on features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from tomostream.geometry import Box
from tomostream.strategies.unet.pretrained.evidence import Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A box of a tomogram and the features there: float16 (c, z, y, x); no channel without a backbone."""

    tomogram: int
    box: Box
    features: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Clicks:
    """A species' clicks, and which of them are left out in turn: for these the box is wide, for the others as far as they may move."""

    points: list[Float64[np.ndarray, " 3"]]
    parts: list[Part]
    judged: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Profiles:
    """Radial profiles of clicks, one a row in the clicks' order, and of other peaks."""

    clicks: np.ndarray
    peaks: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What was made of a species' clicks."""

    verdict: Verdict
    weights: np.ndarray
    bias: float
    profile: np.ndarray
    slope: float
    intercept: float


def linear(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Maps (s, z, y, x) of weights (s, c), plane by plane: features are float16 and many."""
    result = np.empty((len(weights), *features.shape[1:]), dtype=np.float32)
    for z in range(features.shape[1]):
        result[:, z] = np.tensordot(weights.astype(np.float32), features[:, z].astype(np.float32), axes=1)
    return result


def features_at(features: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Features (n, c) at voxels (n, 3), the nearest inside."""
    index = np.clip(np.asarray(index).astype(np.int64), 0, np.array(features.shape[1:]) - 1)
    return np.asarray(features[:, index[:, 0], index[:, 1], index[:, 2]].T, dtype=np.float64)


def deviation_of(parts: Sequence[np.ndarray]) -> float:
    """Standard deviation of all values together, never 0."""
    return max(float(np.std(np.concatenate([part.ravel() for part in parts]), dtype=np.float64)), 1e-6)


def in_deviations(maps: list[np.ndarray], measured: int) -> list[np.ndarray]:
    """Maps over the standard deviation of the first ones."""
    deviation = np.float32(deviation_of(maps[:measured]))
    return [one / deviation for one in maps]
