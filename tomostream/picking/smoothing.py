"""What is the mean score around each voxel?  The mean over a ball, in blocks, with the bits of the whole-volume filter.

Scores of a voxel classifier saturate inside a particle, so the highest voxel may lie anywhere on a plateau; the mean over a ball
has its peak in the plateau's middle.

1. Along x: sums over runs of 2 w + 1 voxels, each from the next shorter one.
2. Along y: for each plane of the ball, the sum of the runs that make up its disc.
3. Along z: each plane's disc sums are added to the planes of the result that it reaches, in ascending order.

Every sum is float64 and taken in an order that depends on the ball alone: no running sums along the volume, whose rounding would show
where a block begins.  At the volume's faces the mean is over the voxels inside.  NaN is a missing score: it is left out of the means,
and its own voxel stays NaN.  A voxel costs about pi R^2 / 2 additions, not the ball's 4.2 R^3.
"""

import numpy as np
from jaxtyping import Float, Float64, Num

from tomostream.geometry import Box, Triple, triple

_TILE = 128  # edge in y and x of what is summed at a time: its planes stay in the processor's cache


def ball_mean(scores: Num[np.ndarray, "z y x"], *, at: Box, wanted: Box, shape: Triple, radius: float) -> Float64[np.ndarray, "a b c"]:
    """Average scores over the ball of `radius` voxels (centres, inclusive) around each voxel of a box.

    Parameters
    ----------
    scores
        The scores of the box `at`, of any real type.
    at
        Where in the volume they lie: `wanted` expanded by `radius`, rounded down, and clipped to the volume.
    wanted
        The box whose means are returned.
    shape
        The volume's shape.
    radius
        Radius of the ball in voxels.

    Returns
    -------
    float64, of the shape of `wanted`; NaN where the score itself is NaN.
    """
    reach = int(radius)
    means = np.empty(wanted.shape, dtype=np.float64)
    for y in range(wanted.start[1], wanted.stop[1], _TILE):
        for x in range(wanted.start[2], wanted.stop[2], _TILE):
            tile = Box((wanted.start[0], y, x), (wanted.stop[0], y + _TILE, x + _TILE)).clipped(wanted)
            around = tile.expanded(reach).clipped(at)
            means[tile.relative_to(wanted.start).slices] = _tile_mean(
                scores[around.relative_to(at.start).slices], around, tile, shape=shape, radius=radius
            )
    return means


def _tile_mean(scores: np.ndarray, at: Box, wanted: Box, *, shape: Triple, radius: float) -> Float64[np.ndarray, "a b c"]:
    missing = np.isnan(scores)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite scores of both signs have no mean; NaN is no pick
        if not missing.any():
            return np.asarray(_ball_sum(scores, at, wanted, radius) / _inside_count(wanted, shape, radius))
        total = _ball_sum(np.where(missing, 0, scores), at, wanted, radius)
        count = _ball_sum(~missing, at, wanted, radius)
        mean = np.asarray(total / np.where(count == 0, np.nan, count))
    mean[missing[wanted.relative_to(at.start).slices]] = np.nan
    return mean


def half_widths(radius: float) -> list[list[int]]:
    """Return, for dz = 0, 1, ... and dy = 0, 1, ..., the half-width along x of the ball's row (dz, dy)."""
    squares = np.arange(int(radius) + 1, dtype=np.int64) ** 2
    inside = squares[:, None, None] + squares[:, None] + squares <= radius * radius
    return [[int(row.sum()) - 1 for row in plane if row[0]] for plane in inside]


def _ball_sum(values: np.ndarray, at: Box, wanted: Box, radius: float) -> Float64[np.ndarray, "a b c"]:
    """Sum over the ball around each voxel of `wanted`; `values` are those of `at`, beyond which there is nothing."""
    reach = int(radius)
    widths = half_widths(radius)
    nz, ny, nx = wanted.shape
    total = np.zeros(wanted.shape, dtype=np.float64)
    # a plane with a margin of zeros where the ball leaves the volume
    padded = np.zeros((ny + 2 * reach, nx + 2 * reach), dtype=np.float64)
    inner = padded[Box((0, *at.start[1:]), (1, *at.stop[1:])).relative_to((0, wanted.start[1] - reach, wanted.start[2] - reach)).slices[1:]]
    runs = np.empty((reach + 1, ny + 2 * reach, nx), dtype=np.float64)
    disc = np.empty((ny, nx), dtype=np.float64)
    pair = np.empty((ny, nx), dtype=np.float64)
    for plane, z in zip(values, range(at.start[0] - wanted.start[0], at.stop[0] - wanted.start[0]), strict=True):
        inner[:] = plane
        runs[0] = padded[:, reach : reach + nx]
        for w in range(1, reach + 1):
            np.add(padded[:, reach - w : reach - w + nx], padded[:, reach + w : reach + w + nx], out=runs[w])
            runs[w] += runs[w - 1]
        for dz, rows in enumerate(widths):
            disc[:] = runs[rows[0], reach : reach + ny]
            for dy, w in enumerate(rows[1:], start=1):
                np.add(runs[w, reach - dy : reach - dy + ny], runs[w, reach + dy : reach + dy + ny], out=pair)
                disc += pair
            for target in {z - dz, z + dz}:
                if 0 <= target < nz:
                    total[target] += disc
    return total


def _inside_count(wanted: Box, shape: Triple, radius: float) -> Float[np.ndarray, "a b c"]:
    count, places = inside_counts(wanted, shape, radius)
    return np.asarray(count[np.ix_(*places)])


def inside_counts(wanted: Box, shape: Triple, radius: float) -> tuple[Float64[np.ndarray, "n m k"], list[np.ndarray]]:
    """Count the voxels of the ball that lie in the volume: far from the faces the count is constant, so a small volume suffices.

    Returns
    -------
    tuple
        The counts of a small volume, and where in it to look for each voxel of `wanted`, one array an axis.
    """
    reach = int(radius)
    small = triple([min(n, 2 * reach + 1) for n in shape])
    count = _ball_sum(np.ones(small), Box.whole(small), Box.whole(small), radius)
    places = []
    for start, stop, n, m in zip(wanted.start, wanted.stop, shape, small, strict=True):
        at = np.arange(start, stop)
        places.append(np.minimum(at, reach) if n > m else at)
        if n > m:
            places[-1] = np.maximum(places[-1], at - (n - m))
    return count, places
