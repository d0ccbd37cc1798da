"""The report's gallery: the best picks, the worst, and some between, each seen from above and from the side.

Those between are spread evenly over the ranks, so that wherever the slider of the page stands, the gallery shows picks of about that
score.
"""

from __future__ import annotations

import numpy as np

from tomostream.geometry import Box, triple
from tomostream.grey_pictures import grey_values, robust_scale, smoothed
from tomostream.report.contents import GalleryPicture
from tomostream.report.packed import base64_of, webp_within
from tomostream.tomogram import Tomogram

EACH = 8  # number of the best, of the worst, and of those between
_AROUND = 2.4  # radii from the centre to the picture's border
_LEAST_RADIUS = 7.0  # smallest radius of the particle in its picture, pixels; chooses the pyramid level
_MOST_EDGE = 72
_SIGMA = 0.1  # of the radius: standard deviation of the smoothing


def shown_ranks(count: int) -> np.ndarray:
    """Return the ranks (0 is the best) of the picks that are shown, out of `count`."""
    ends = [*range(min(EACH, count)), *range(max(0, count - EACH), count)]
    between = np.linspace(0, max(0, count - 1), EACH + 2)[1:-1].round().astype(int).tolist() if count else []
    return np.unique(np.array([*ends, *between], dtype=np.int64))


def gallery_pictures(tomogram: Tomogram, zyx: np.ndarray, radius: float, most_bytes: int) -> GalleryPicture:
    """Draw the surroundings of positions (level-0 voxels) as one picture: a row for each, with its x-y and x-z views side by side.

    Raises
    ------
    InputError
        If the store is damaged.
    """
    level = 0
    while radius / 2 ** (level + 1) >= _LEAST_RADIUS:
        level += 1
    volume = tomogram.at_level(level)
    own = radius / 2**level
    edge = 2 * min(round(_AROUND * own), _MOST_EDGE // 2) + 1
    pairs = [_pair(volume, place, own, edge) for place in volume.to_level_positions(zyx)]
    scale = robust_scale(np.stack(pairs)) if pairs else (0.0, 1.0)
    sheet = grey_values(np.concatenate(pairs), *scale)
    [made], shrink = webp_within([sheet], most_bytes)
    return {"edge": edge, "radius": own / edge, "shrink": shrink, "sheet": base64_of(made)}


def _pair(volume: Tomogram, place: np.ndarray, radius: float, edge: int) -> np.ndarray:
    """Return float32 (edge, 2 edge): x-y and x-z views, means over slabs one radius thick; NaN outside the volume."""
    half = edge // 2
    middle = [round(float(value)) for value in place]
    wide = Box(triple([m - half for m in middle]), triple([m + half + 1 for m in middle]))
    box = wide.clipped(Box.whole(volume.shape))
    cube = np.full((edge, edge, edge), np.nan, dtype=np.float32)
    if not box.is_empty:
        cube[box.relative_to(wide.start).slices] = volume.read(box)
    reach = max(0, round(radius / 2))
    slab = slice(half - reach, half + reach + 1)
    views = [_mean(cube[slab], 0), _mean(cube[:, slab], 1)]
    return np.concatenate([smoothed(view, _SIGMA * radius) for view in views], axis=1)


def _mean(part: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean along an axis of the values that are not NaN."""
    known = np.isfinite(part).sum(axis=axis)
    total: np.ndarray = np.where(known > 0, np.nansum(part, axis=axis) / np.maximum(known, 1), np.nan)
    return total.astype(np.float32)
