"""Choose and draw the slices of a tomogram that the report shows.

1. Take the finest pyramid level whose slices are no wider than the page can show.
2. Choose at most `MOST_SLICES` slices, half a radius to one radius apart, so that each particle in the slab is cut by at least one.  If
   the volume is deeper than that, the slab lies where most picks are.
3. Each slice is the mean over the planes up to the next one, but over no more than half a radius; slightly smoothed for the eye, with
   grey values scaled by the middle slice.  All slices together are compressed to their share of the page.

Planes are read a few at a time, never a whole volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomostream.geometry import Box, Triple
from tomostream.grey_pictures import grey_values, robust_scale, slab_mean, smoothed
from tomostream.report.contents import Slab
from tomostream.report.packed import base64_of, webp_within
from tomostream.tomogram import Tomogram

MOST_SLICES = 24
WIDEST_VOX = 640  # longest edge of a slice
EYE_SIGMA = 0.15  # standard deviation of the smoothing, in radii
_THICK = 0.5  # largest thickness of a slice, in radii
_APART = (0.5, 1.0)  # smallest and largest distance of slices, in radii
PIECE_VOX = 2_000_000  # read at once


@dataclass(frozen=True, slots=True)
class SlabPlan:
    """The planes that are shown.

    Parameters
    ----------
    level
        Of the pyramid.
    planes
        First and last + 1 plane of each slice, voxels of the level.
    """

    level: int
    planes: tuple[tuple[int, int], ...]

    @property
    def z(self) -> list[float]:
        """The middle of each slice, level-0 voxels."""
        return [(first + last) / 2 * 2**self.level - 0.5 for first, last in self.planes]


def shown_level(tomogram: Tomogram) -> int:
    """Return the finest level whose slices are no wider than `WIDEST_VOX`."""
    level = 0
    while max(tomogram.at_level(level).shape[1:]) > WIDEST_VOX:
        level += 1
    return level


def plan_slab(depth: int, level: int, picks_z: np.ndarray, radius: float, most_slices: int = MOST_SLICES) -> SlabPlan:
    """Choose the planes.

    Parameters
    ----------
    depth
        Planes of the level.
    picks_z
        Of the picks, level-0 voxels.
    radius
        Of the particle, level-0 voxels.
    """
    own = radius / 2**level
    apart = int(np.clip(np.ceil(depth / most_slices), max(1, round(_APART[0] * own)), max(1, round(_APART[1] * own))))
    apart = min(apart, depth)
    count = min(most_slices, depth // apart)
    room = depth - count * apart
    first = room // 2
    if room > 0 and len(picks_z):  # the window of planes with most picks; the middle one if several have as many
        planes = np.clip(np.floor((picks_z + 0.5) / 2**level).astype(int), 0, depth - 1)
        total = np.concatenate([[0], np.cumsum(np.bincount(planes, minlength=depth))])
        within = total[count * apart : count * apart + room + 1] - total[: room + 1]
        best = np.flatnonzero(within == within.max())
        first = int(best[len(best) // 2])
    thick = max(1, min(apart, round(_THICK * own)))
    starts = [first + number * apart + (apart - thick) // 2 for number in range(count)]
    return SlabPlan(level, tuple((start, min(start + thick, depth)) for start in starts))


def slab_pictures(tomogram: Tomogram, plan: SlabPlan, radius: float, most_bytes: int) -> Slab:
    """Read and compress the slices; return them and their geometry as the page expects it.

    Raises
    ------
    InputError
        If the store is damaged.
    """
    volume = tomogram.at_level(plan.level)
    means = (_slice(volume, planes, EYE_SIGMA * radius / 2**plan.level) for planes in plan.planes)
    scale = robust_scale(_slice(volume, plan.planes[len(plan.planes) // 2], EYE_SIGMA * radius / 2**plan.level))
    greys = [grey_values(mean, *scale) for mean in means]
    made, shrink = webp_within(greys, most_bytes)
    rows, columns = volume.shape[1:]
    return {
        "z": plan.z,
        "thick": (plan.planes[0][1] - plan.planes[0][0]) * 2**plan.level,
        "rows": max(1, round(rows * shrink)),
        "columns": max(1, round(columns * shrink)),
        "slices": [base64_of(one) for one in made],
    }


def _slice(volume: Tomogram, planes: tuple[int, int], sigma: float) -> np.ndarray:
    whole: Triple = volume.shape
    box = Box((planes[0], 0, 0), (planes[1], *whole[1:]))
    return smoothed(slab_mean(lambda part: volume.read(part).astype(np.float32), box, axis=0, most=PIECE_VOX), sigma)
