"""Interpolate the logits of a coarser level to the tomogram's own grid, trilinearly between voxel centres.

Level-0 voxel i lies at p = (i + 0.5) / 2^L - 0.5 of level L, clamped to [0, n - 1] at the volume's faces.  Along each axis the value is
a + (b - a) w, with a and b the voxels below and above p and w = p - floor(p), a multiple of 2^-(L+1), so exact in float32.  Every
value is computed from its absolute coordinates, in the order z, y, x: however a volume is split into boxes, the bits are the same.
"""

import numpy as np
from jaxtyping import Float32

from tomostream.geometry import Box, Triple, triple

_PIECE_VOXELS = 2**20  # level-0 voxels made at a time: bounds the temporaries


def supporting_box(box: Box, level: int, level_shape: Triple) -> Box:
    """Return the box of the level's voxels between which the level-0 voxels of `box` lie.

    Parameters
    ----------
    box
        Level-0 voxels; not empty.
    level
        L >= 0; a voxel of it is 2^L level-0 voxels wide.
    level_shape
        Shape of the whole volume at that level: ceil(n / 2^L).
    """
    low = [_between(start, level, edge)[0] for start, edge in zip(box.start, level_shape, strict=True)]
    high = [_between(stop - 1, level, edge)[1] for stop, edge in zip(box.stop, level_shape, strict=True)]
    return Box(triple(low), triple([h + 1 for h in high]))


def upsample(
    values: Float32[np.ndarray, "s z y x"],
    origin: Triple,
    target: Box,
    level: int,
    level_shape: Triple,
    out: Float32[np.ndarray, "s Z Y X"],
) -> None:
    """Interpolate `values` at the level-0 voxels of `target` into `out`.

    Parameters
    ----------
    values
        Values of the level's voxels from `origin` on; they hold `supporting_box(target, level, level_shape)`.
    origin
        Of `values`, voxels of the level.
    target
        Level-0 voxels.
    level, level_shape
        As in `supporting_box`.
    out
        Of the target's shape; overwritten.
    """
    if level == 0:
        out[...] = values[(slice(None), *target.relative_to(origin).slices)]
        return
    z, y, x = (
        neighbours(start, stop, level, edge, first)
        for start, stop, edge, first in zip(target.start, target.stop, level_shape, origin, strict=True)
    )
    planes = max(1, _PIECE_VOXELS // max(1, target.shape[1] * target.shape[2]))
    for species, result in zip(values, out, strict=True):
        for first in range(0, target.shape[0], planes):
            part = slice(first, first + planes)
            piece = _blended(species, (z[0][part], z[1][part], z[2][part]), 0)
            result[part] = _blended(_blended(piece, y, 1), x, 2)


def _between(voxel: int, level: int, edge: int) -> tuple[int, int]:
    """Return the level's voxels below and above the centre of a level-0 voxel, in integers: p = (2 i + 1 - 2^L) / 2^(L + 1)."""
    if level == 0:
        return voxel, voxel
    numerator, denominator = 2 * voxel + 1 - 2**level, 2 ** (level + 1)
    low = numerator // denominator
    return min(max(low, 0), edge - 1), min(max(low + 1, 0), edge - 1)


def neighbours(start: int, stop: int, level: int, edge: int, origin: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for the level-0 voxels start <= i < stop of an axis, the indices below and above (from `origin`) and the upper one's weight."""
    numerator = 2 * np.arange(start, stop, dtype=np.int64) + 1 - 2**level
    low = numerator // 2 ** (level + 1)
    weight = ((numerator - low * 2 ** (level + 1)) / 2 ** (level + 1)).astype(np.float32)
    return np.clip(low, 0, edge - 1) - origin, np.clip(low + 1, 0, edge - 1) - origin, weight


def _blended(block: np.ndarray, neighbours: tuple[np.ndarray, np.ndarray, np.ndarray], axis: int) -> np.ndarray:
    low, high, weight = neighbours
    below = np.take(block, low, axis=axis)
    result = np.take(block, high, axis=axis)
    result -= below
    shape = [1, 1, 1]
    shape[axis] = len(weight)
    result *= weight.reshape(shape)
    result += below
    return result
