"""Which points lie in a tomogram?  A voxel reaches half a voxel beyond its centre, and so does the volume.

A point at most `OVERSHOOT_VOX` beyond a face is meant to be at the face: tables of other software count from voxels' edges or centres, or are
rounded.  Such points are taken, and told; they never stop a command.  What is farther out is outside: a few are left out, many are an error of
axes or units.
"""

from __future__ import annotations

import numpy as np

from tomostream import defaults
from tomostream.geometry import Triple

_HALF = 0.5  # of a voxel


def lies_inside(position_zyx: np.ndarray, shape: Triple, *, beyond: float = 0.0) -> np.ndarray:
    """Whether each position (n, 3; voxels z y x) lies in a volume of this shape, or at most so many voxels beyond; bool (n,)."""
    low, high = -_HALF - beyond, np.asarray(shape) - _HALF + beyond
    result: np.ndarray = np.all((position_zyx >= low) & (position_zyx <= high), axis=1)
    return result


def counts_as_inside(position_zyx: np.ndarray, shape: Triple) -> np.ndarray:
    """Whether each position is inside, or so little outside that it is taken for a point at the face; bool (n,)."""
    return lies_inside(position_zyx, shape, beyond=defaults.OVERSHOOT_VOX)


def at_faces(position_zyx: np.ndarray, shape: Triple) -> np.ndarray:
    """Move positions that lie beyond a face onto it."""
    result: np.ndarray = np.clip(position_zyx, -_HALF, np.asarray(shape) - _HALF)
    return result


def overshoot(position_zyx: np.ndarray, shape: Triple) -> str | None:
    """Say which points lie a little outside; None where none does."""
    little = counts_as_inside(position_zyx, shape) & ~lies_inside(position_zyx, shape)
    if not little.any():
        return None
    most = np.abs(position_zyx - at_faces(position_zyx, shape))[little].max()
    return f"{np.count_nonzero(little)} of {len(position_zyx)} points lie up to {most:.2g} voxels outside"
