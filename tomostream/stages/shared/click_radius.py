"""How large are the clicked particles?  The radius at which the clicks' mean density has come back to that of the places around.

1. Cubes about the clicks, and about places farther off; voxels are clipped at four robust deviations.
2. The difference of their mean radial profiles, and its deviation by chance.
3. From the innermost distance at which it is clear (`_INNERMOST`), outwards: the first distance at which under `LEVEL` of the largest difference up
   to there is left.  Farther out, gaps between particles that touch can be clearer than the particle.
4. First at a coarse level with cubes of `REACH_ANG`, then at the level at which the radius found has 6 to 12 voxels.

Limits: particles that touch look larger; fringes of defocus move the border.  Errors are within one voxel on all species tried, FAS 1.5 (docs/measurements.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tomostream.stages.shared.coarse_volume import CoarseVolume
from tomostream.strategies.matched_filter.profile import radial_profile

LEVEL = 0.04  # of the largest difference
REACH_ANG = 400.0  # that is looked at first
_MOST_VOX = 40  # of it
_FINEST_VOX = 12.0  # of the radius, at the level of the second look
_WIDE = 2.2  # radii, of the second look's cubes
_MOST_CLICKS, _PLACES_A_CLICK = 24, 4
_CLIP = 4.0
_CLEAR = 5.0  # deviations
_INNERMOST = 0.5  # of the greatest clearness, so that a distance counts as the particle's
_STEP = 0.5  # voxels of level 0, to which a radius is rounded
FEWEST = 5

Opened = Callable[[int], CoarseVolume | None]


def click_radius(tomograms: Sequence[tuple[Opened, np.ndarray]], *, spacing: float) -> float | None:
    """Estimate the radius of clicked particles; voxels of level 0, to half a voxel, or None where the clicks don't show it.

    Parameters
    ----------
    tomograms
        Each as a function that opens it at a level, and its clicks, (n, 3) voxels z y x of level 0.
    spacing
        Of level 0, angstrom.
    """
    if sum(len(points) for _, points in tomograms) < FEWEST:
        return None
    reach = REACH_ANG / spacing
    level = max(0, math.ceil(math.log2(reach / _MOST_VOX)))
    radius = _at_level(tomograms, level, max(8, round(reach / 2**level)))
    if radius is None:
        return None
    finer = max(0, math.ceil(math.log2(radius * 2**level / _FINEST_VOX)))
    if finer < level:
        again = _at_level(tomograms, finer, math.ceil(_WIDE * radius * 2 ** (level - finer)))
        if again is not None:
            radius, level = again, finer
    return float(max(_STEP, round(radius * 2**level / _STEP) * _STEP))


def _at_level(tomograms: Sequence[tuple[Opened, np.ndarray]], level: int, half: int) -> float | None:
    rng = np.random.default_rng(0)
    clicked: list[np.ndarray] = []
    around: list[np.ndarray] = []
    share = math.ceil(_MOST_CLICKS / len(tomograms))
    for opened, points in tomograms:
        volume = opened(level)
        if volume is None or not len(points):
            continue
        at = volume.at_level(points[np.sort(rng.permutation(len(points))[:share])])
        places = _places(at, volume, half, rng)
        cubes = [volume.cube(place, half) for place in (*at, *places)]
        voxels = np.concatenate([cube[::3, ::3, ::3].ravel() for cube in cubes])
        voxels = voxels[np.isfinite(voxels)]
        low, centre, high = np.quantile(voxels, [0.158655, 0.5, 0.841345]) if voxels.size else (0.0, 0.0, 0.0)
        if not high > low:
            continue
        spread = (high - low) / 2
        profiles = [
            radial_profile(np.nan_to_num(np.clip((cube - centre) / spread, -_CLIP, _CLIP), nan=0.0).astype(np.float32)) for cube in cubes
        ]
        clicked += profiles[: len(at)]
        around += profiles[len(at) :]
    return _border(np.array(clicked), np.array(around)) if len(clicked) >= FEWEST else None


def _places(at: np.ndarray, volume: CoarseVolume, half: int, rng: np.random.Generator) -> np.ndarray:
    """Places about as far off the clicks as what is looked at, inside the volume."""
    limits = np.asarray(volume.shape) - 1.0
    directions = rng.normal(size=(_PLACES_A_CLICK * len(at), 3))
    directions *= (half * rng.uniform(1, 2, len(directions)) / np.linalg.norm(directions, axis=1))[:, None]
    places: np.ndarray = np.clip(np.repeat(at, _PLACES_A_CLICK, axis=0) + directions, 0, limits)
    return places


def _border(clicked: np.ndarray, around: np.ndarray) -> float | None:
    """Where the difference of the mean profiles ends; voxels, or None where it is not clear."""
    difference = clicked.mean(axis=0) - around.mean()
    chance = around.std(axis=0) * math.sqrt(1 / len(clicked) + 1 / len(around))
    clearness = np.abs(difference[1:]) / np.maximum(chance[1:], 1e-12)  # the centre is one voxel
    if clearness.max() < _CLEAR:
        return None
    signs = np.sign(difference[1:])
    first = int(np.argmax(clearness >= max(_CLEAR, _INNERMOST * clearness.max())))
    ends = np.flatnonzero((signs[first + 1 :] != signs[first]) | (np.diff(clearness[first:]) < 0))
    clearest = 1 + first + (int(ends[0]) if ends.size else len(clearness) - 1 - first)
    signed = difference * np.sign(difference[clearest])
    least = LEVEL * float(signed[1 : clearest + 1].max())
    below = np.flatnonzero(signed[clearest:] < least)
    if not below.size:
        return None
    after = clearest + int(below[0])
    before = after - 1
    return before + float((signed[before] - least) / (signed[before] - signed[after]))
