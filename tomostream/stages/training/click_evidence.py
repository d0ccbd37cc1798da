"""Do clicks lie on something?  A number for how much the places look like each other, and unlike the places around them.

1. A place is described by the mean of its voxels in shells about it: `SHELLS`, in radii of the particle.  Voxels are clipped at 4 robust
   deviations first, so that gold and hot voxels decide nothing.
2. The background are places some radii away from the clicks, in random directions: of the same depth of the same specimen.  Their mean and covariance whiten
   the descriptions: each click becomes a vector w, of the background's deviations.
3. The likeness is the mean of w_i . w_j over the pairs of clicks: about 0 for places of the background, and large where the clicks are on particles, dark, bright or
   hollow.  The evidence is the same in units of its deviation for places of the background: it grows with the number of clicks.
4. The contrast is the core less its surround, in the same units: below 0 where particles are dark.

Limits: under `FEWEST` clicks it says nothing.  Clicks on the wrong kind of particle lie on something too.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from tomostream.geometry import Triple
from tomostream.stages.shared.coarse_volume import CoarseVolume

SHELLS = (0.0, 0.5, 0.8, 1.1, 1.6)  # radii of the particle, between which voxels are averaged
FEWEST = 5  # clicks
_MOST_CLICKS = 32  # that are looked at
_PLACES = 128  # of the background
_NEAR, _FAR = 2.5, 6.0  # radii from a click at which background is taken
_CLIP = 4.0
_CAP = 6.0  # deviations that one click counts at most
_SHRINKAGE = 0.05
_SHIFTS = (1.0, 1.5, 2.0, 2.5)  # radii by which all clicks may be off


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """What the places without a click look like: how voxels are clipped, and how descriptions are whitened."""

    centre: float
    spread: float
    mean: Float64[np.ndarray, " k"]
    whitening: Float64[np.ndarray, "k k"]
    contrast_std: float

    def whitened(self, descriptions: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
        """Descriptions in deviations of the background, each capped."""
        vectors = (descriptions - self.mean) @ self.whitening
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        result: np.ndarray = vectors * np.minimum(1, _CAP / np.maximum(lengths, 1e-12))
        return result

    def contrast(self, descriptions: Float64[np.ndarray, "n k"]) -> float:
        """Core less surround of the descriptions' mean, in deviations that as many places of the background have."""
        deviations = descriptions - self.mean
        mean = (_core(deviations) - deviations[:, -1]).mean()
        return float(mean / (self.contrast_std / math.sqrt(len(descriptions))))


def _core(descriptions: np.ndarray) -> np.ndarray:
    """Mean of the voxels of the inner shells, by their volumes."""
    volumes = np.diff(np.array(SHELLS[:-2]) ** 3)
    core: np.ndarray = descriptions[:, : len(volumes)] @ (volumes / volumes.sum())
    return core


def background_of(volume: CoarseVolume, points: Float64[np.ndarray, "n 3"], radius: float, rng: np.random.Generator) -> Background | None:
    """Look at places around the clicks; None where they don't differ at all (a constant volume, or nothing to read).

    Parameters
    ----------
    points
        The clicks, voxels z y x of the level.
    radius
        Of the particle, voxels of the level.
    rng
        Of the places.
    """
    places = _around(points, volume.shape, radius, rng)
    cubes = [volume.cube(place, math.ceil(SHELLS[-1] * radius)) for place in places]
    voxels = np.concatenate([cube[::2, ::2, ::2].ravel() for cube in cubes])
    voxels = voxels[np.isfinite(voxels)]
    if not voxels.size:
        return None
    low, centre, high = np.quantile(voxels, [0.158655, 0.5, 0.841345])
    if not high > low:
        return None
    spread = float(high - low) / 2
    found = np.array([_described(cube, radius, centre, spread) for cube in cubes])
    covariance = np.cov(found.T)
    covariance += _SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors @ np.diag(1 / np.sqrt(values)) @ vectors.T
    contrast_std = float(np.std(_core(found) - found[:, -1]))
    return Background(float(centre), spread, found.mean(axis=0), whitening, contrast_std)


def described(
    volume: CoarseVolume, points: Float64[np.ndarray, "n 3"], radius: float, background: Background
) -> Float64[np.ndarray, "n k"]:
    """Means of the shells around places, one row per place."""
    half = math.ceil(SHELLS[-1] * radius)
    rows = [_described(volume.cube(point, half), radius, background.centre, background.spread) for point in points]
    return np.array(rows, dtype=np.float64).reshape(-1, len(SHELLS) - 1)


def described_shifts(
    volume: CoarseVolume, points: Float64[np.ndarray, "n 3"], radius: float, background: Background
) -> tuple[Float64[np.ndarray, "s 3"], Float64[np.ndarray, "s n k"]]:
    """Descriptions of the places that lie off the clicks by common shifts; and the shifts, voxels z y x of the level."""
    directions = np.array(
        [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (z, y, x) != (0, 0, 0)], dtype=np.float64
    )
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    shifts = np.rint(np.concatenate([directions * (share * radius) for share in _SHIFTS]))
    half, reach = math.ceil(SHELLS[-1] * radius), int(abs(shifts).max())
    wide = [volume.cube(point, half + reach) for point in points]
    result = np.empty((len(shifts), len(wide), len(SHELLS) - 1))
    for number, shift in enumerate(shifts.astype(int)):
        first = [reach + int(s) for s in shift]
        inner = tuple(slice(a, a + 2 * half + 1) for a in first)
        result[number] = [_described(cube[inner], radius, background.centre, background.spread) for cube in wide]
    return shifts, result


def likeness_of(whitened: Float64[np.ndarray, "n k"]) -> float:
    """Mean of w_i . w_j over the pairs: the squared distance of the clicked particle from the background, in its deviations."""
    n = len(whitened)
    return (float((whitened.sum(axis=0) ** 2).sum()) - float((whitened**2).sum())) / (n * (n - 1)) if n > 1 else 0.0


def evidence(whitened: Float64[np.ndarray, "n k"]) -> float:
    """How much the clicks look like each other and unlike the background; see the module."""
    n, k = whitened.shape
    return likeness_of(whitened) / math.sqrt(2 * k / (n * (n - 1))) if n > 1 else 0.0


def some_of(points: Float64[np.ndarray, "n 3"], rng: np.random.Generator) -> Float64[np.ndarray, "m 3"]:
    """The clicks that are looked at: all, or as many as are enough."""
    return points if len(points) <= _MOST_CLICKS else points[np.sort(rng.choice(len(points), _MOST_CLICKS, replace=False))]


def _around(points: np.ndarray, shape: Triple, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Places some radii off the clicks, inside the volume."""
    limits = np.asarray(shape) - 1.0
    found: list[np.ndarray] = []
    for number in range(_PLACES):
        click = points[number % len(points)]
        for _ in range(20):
            direction = rng.normal(size=3)
            place = click + direction / np.linalg.norm(direction) * radius * rng.uniform(_NEAR, _FAR)
            if (place >= 0).all() and (place <= limits).all():
                break
        else:
            place = rng.uniform(0, limits)
        found.append(place)
    return np.array(found)


def _described(cube: np.ndarray, radius: float, centre: float, spread: float) -> np.ndarray:
    """Means of the shells of a cube, in robust deviations; what is not finite counts as the median."""
    values = np.clip((cube - centre) / spread, -_CLIP, _CLIP)
    values = np.where(np.isfinite(values), values, 0.0)
    squared = np.arange(-(cube.shape[0] // 2), cube.shape[0] // 2 + 1, dtype=np.float64) ** 2
    distance = np.sqrt(squared[:, None, None] + squared[None, :, None] + squared[None, None, :]) / radius
    shell = np.searchsorted(SHELLS, distance.ravel(), side="right") - 1
    counts = np.bincount(shell, minlength=len(SHELLS))[: len(SHELLS) - 1]
    means: np.ndarray = np.bincount(shell, values.ravel(), minlength=len(SHELLS))[: len(SHELLS) - 1] / np.maximum(counts, 1)
    return means
