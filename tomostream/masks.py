"""Which voxels of a box belong to a label?  One box at a time; no file, no whole volume.

A voxel belongs to a point's label if its centre, the integer index, lies near enough to the un-rounded point.  With d the vector from
point to voxel and R the radius, both in voxels:

- `sphere`: d_z^2 + d_y^2 + d_x^2 <= R^2;
- `gaussian`: exp(-|d|^2 / (2 s^2)) > exp(-1), which is |d|^2 < 2 s^2, inside the cube of half-edge R.  This is DeepETPicker's label of
  diameter D = 2 R + 1 voxels, s = (D - 1) / 2 = R, whose template is cut off at D voxels: a ball with flattened poles;
- `cube`: the largest of |d_z|, |d_y|, |d_x| <= R.

So every label reaches just R along each axis, and holds the ones before it in this list.

1. Keep the points whose cube of half-edge R reaches the box: one vectorised comparison.
2. For each of them compare only the voxels of its small window, in slabs of bounded size.

All comparisons are float64 expressions of absolute coordinates, the same for a voxel whatever box it is asked for in: the masks of
the parts of a volume are bit for bit the parts of its mask.  Where labels of several values overlap, the smallest value wins, so the
order of the points doesn't matter.

References
----------
Liu et al. (2024), "DeepETPicker: fast and accurate 3D particle picking for cryo-electron tomography using weakly supervised deep
learning", Nature Communications 15, 2090 (the Gaussian-thresholded label).
"""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from tomostream.errors import InputError
from tomostream.geometry import Box, Triple

LabelShape = Literal["sphere", "gaussian", "cube"]
Radius = float | int | Float64[np.ndarray, " n"]

_SLAB_VOX = 2**17  # voxels compared at a time: 1 MB of float64


def check_labels(points_zyx: np.ndarray, radius: Radius, shape: str, values: np.ndarray | None) -> None:
    """Refuse what can't be painted: see `mask_of_box`.

    Raises
    ------
    InputError
        If a coordinate is not finite, a radius not positive and finite, a value 0, or the label's shape unknown.
    """
    if shape not in get_args(LabelShape):
        raise InputError(f"label shape '{shape}' is unknown; choose one of {', '.join(get_args(LabelShape))}")
    radii = np.atleast_1d(radius)
    if radii.size and not (np.isfinite(radii).all() and radii.min() > 0):
        raise InputError(f"a label's radius must be above zero and finite, found {radii.min():g} to {radii.max():g} voxels")
    broken = np.flatnonzero(~np.isfinite(points_zyx).all(axis=1))
    if broken.size:
        point = tuple(points_zyx[broken[0]].tolist())
        raise InputError(
            f"{broken.size} of {len(points_zyx)} points have a coordinate that is not finite; the first is row {broken[0]}: {point}"
        )
    if values is not None and values.size and values.min() == 0:
        raise InputError("a label's value must be 1 to 255, found 0, which stands for the background")


def points_touching(box: Box, points_zyx: Float64[np.ndarray, "n 3"], radius: Radius) -> Int64[np.ndarray, " m"]:
    """Find the points whose cube of half-edge `radius` reaches a voxel centre of the box, and perhaps a few that just miss it.

    Parameters
    ----------
    box
        In voxels.
    points_zyx
        In voxels, not rounded.
    radius
        In voxels; one for all points, or one each.

    Returns
    -------
    np.ndarray
        Their indices, ascending.
    """
    if box.is_empty or not len(points_zyx):
        return np.empty(0, dtype=np.int64)
    reach = np.reshape(radius, (-1, 1))
    # rounded outwards by the very expressions that bound a window in `_paint`
    low, high = np.floor(points_zyx - reach), np.ceil(points_zyx + reach)
    return np.flatnonzero(((high >= box.start) & (low < box.stop)).all(axis=1))


def mask_of_box(
    box: Box,
    points_zyx: Float64[np.ndarray, "n 3"],
    *,
    radius: Radius,
    shape: str,
    volume: Triple,
    values: UInt8[np.ndarray, " n"] | None = None,
) -> UInt8[np.ndarray, "z y x"]:
    """Paint the labels in one box of a volume.

    Parameters
    ----------
    box
        In voxels; it may reach out of the volume, where nothing is labelled.
    points_zyx
        In voxels, from the volume's corner, not rounded; a point outside the volume labels what of its ball lies inside.
    radius
        In voxels; one for all points, or one each.
    shape
        `sphere`, `gaussian` or `cube` (see the module).
    volume
        The volume's shape (z, y, x), voxels.
    values
        What to paint for each point, 1 to 255; 1 if None.  The smallest wins where labels overlap.

    Returns
    -------
    np.ndarray
        uint8 of the box's shape, 0 where there is no label.

    Raises
    ------
    InputError
        If a point, radius, value or the shape can't be painted.

    Examples
    --------
    >>> mask_of_box(Box((0, 0, 0), (1, 3, 5)), np.array([[0.0, 1.0, 1.5]]), radius=1.0, shape="sphere", volume=(1, 3, 5))[0]
    array([[0, 0, 0, 0, 0],
           [0, 1, 1, 0, 0],
           [0, 0, 0, 0, 0]], dtype=uint8)
    """
    check_labels(points_zyx, radius, shape, values)
    chosen = points_touching(box.clipped(Box.whole(volume)), points_zyx, radius)
    radii = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(points_zyx))[chosen]
    return paint_checked(box, points_zyx[chosen], radii, shape=shape, volume=volume, values=None if values is None else values[chosen])


def paint_checked(
    box: Box,
    points_zyx: Float64[np.ndarray, "n 3"],
    radii: Float64[np.ndarray, " n"],
    *,
    shape: str,
    volume: Triple,
    values: UInt8[np.ndarray, " n"] | None = None,
) -> UInt8[np.ndarray, "z y x"]:
    """Paint labels that have been checked, and that touch the box or nearly do; else as `mask_of_box`."""
    mask = np.zeros(box.shape, dtype=np.uint8)
    part = box.clipped(Box.whole(volume))
    # the smallest value last, over the others
    order = range(len(points_zyx)) if values is None else np.argsort(values, kind="stable")[::-1].tolist()
    for index in order:
        value = 1 if values is None else int(values[index])
        _paint(mask, box.start, part, points_zyx[index], float(radii[index]), shape, value)
    return mask


def _paint(mask: np.ndarray, origin: Triple, part: Box, point: np.ndarray, radius: float, shape: str, value: int) -> None:
    """Write `value` into the voxels of `part` that belong to one point; `mask` begins at `origin`."""
    low = np.maximum(np.floor(point - radius), part.start).astype(np.int64).tolist()
    high = np.minimum(np.ceil(point + radius) + 1.0, part.stop).astype(np.int64).tolist()
    dz, dy, dx = (np.arange(a, b) - p for a, b, p in zip(low, high, point, strict=True))
    if shape != "sphere":
        kept = [np.flatnonzero(np.abs(d) <= radius) for d in (dz, dy, dx)]
        if not all(k.size for k in kept):
            return
        low = [a + int(k[0]) for a, k in zip(low, kept, strict=True)]
        dz, dy, dx = (d[k[0] : k[-1] + 1] for d, k in zip((dz, dy, dx), kept, strict=True))
    z0, y0, x0 = (a - o for a, o in zip(low, origin, strict=True))
    target = mask[z0 : z0 + dz.size, y0 : y0 + dy.size, x0 : x0 + dx.size]
    if shape == "cube":
        target[...] = value
        return
    slab = max(1, _SLAB_VOX // max(1, dy.size * dx.size))
    for z in range(0, dz.size, slab):
        d = dz[z : z + slab]
        squared = ((d * d)[:, None, None] + (dy * dy)[:, None]) + dx * dx
        near = squared <= radius * radius if shape == "sphere" else squared < 2.0 * (radius * radius)
        target[z : z + slab][near] = value
