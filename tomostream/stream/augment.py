"""Turn crops by the rotations and reflections of the cube, exactly on the grid.

An orientation is a permutation of the three axes followed by a choice of flips; there are 6 x 8 = 48, numbered
`8 * permutation + flips` with 0 for the identity.  They form the full octahedral group: they compose and have inverses.  Nothing is
interpolated: the result is a view of the input, so that image, labels and weights stay aligned to the voxel.

Which of them are symmetries of the *data* depends on the physics, so it is a setting:

- `cube`: all 48, the most variety for few labels.  A turned particle is still a particle, but the missing wedge and the electron beam
  are turned with it, into directions that no real tomogram has.  Reflections show the mirror image of the molecule, which can hardly be
  told apart at a resolution of a few nanometres.
- `wedge`: the 8 choices of flips.  With tilt axis and beam along axes of the volume, the measured part of Fourier space is symmetric
  under each flip, so the wedge stays where it was.  Pairs of flips are rotations by 180 degrees, which also keep the molecule's hand;
  one flip or three show its mirror image.
- `none`: the identity only, for measurements.

A crop with unequal edges keeps only the orientations that keep its shape: 16 if two edges are equal, 8 if none are.
"""

import itertools
from typing import Literal, get_args

import numpy as np
from jaxtyping import Shaped

from tomostream.errors import InputError
from tomostream.geometry import Triple

Symmetry = Literal["cube", "wedge", "none"]

_PERMUTATIONS: tuple[Triple, ...] = tuple((a, b, c) for a, b, c in itertools.permutations(range(3)))
ORIENTATIONS = 8 * len(_PERMUTATIONS)  # 48


def orientations_of(symmetry: str, crop: Triple) -> tuple[int, ...]:
    """Return the orientations of a symmetry that keep the crop's shape; the first is the identity.

    Parameters
    ----------
    symmetry
        `cube`, `wedge` or `none` (see the module).
    crop
        Edges z y x, voxels.

    Raises
    ------
    InputError
        If the symmetry is unknown.
    """
    if symmetry not in get_args(Symmetry):
        raise InputError(f"symmetry '{symmetry}' is unknown; choose one of {', '.join(get_args(Symmetry))}")
    if symmetry == "none":
        return (0,)
    if symmetry == "wedge":
        return tuple(range(8))
    return tuple(o for o in range(ORIENTATIONS) if tuple(crop[axis] for axis in _parts(o)[0]) == crop)


def oriented(volume: Shaped[np.ndarray, "*lead z y x"], orientation: int) -> Shaped[np.ndarray, "*lead a b c"]:
    """Turn a volume: a view whose last three axes are permuted, then flipped.

    Parameters
    ----------
    volume
        Any leading axes (channels) stay as they are.
    orientation
        0 to 47.
    """
    permutation, flips = _parts(orientation)
    lead = volume.ndim - 3
    turned = volume.transpose(*range(lead), *(lead + axis for axis in permutation))
    return turned[(..., *(slice(None, None, -1) if flip else slice(None) for flip in flips))]


def composed(first: int, second: int) -> int:
    """Return the orientation that equals `first` followed by `second`."""
    p, f = _parts(first)
    q, g = _parts(second)
    return _number(tuple(p[axis] for axis in q), tuple(f[axis] ^ flip for axis, flip in zip(q, g, strict=True)))


def inverse(orientation: int) -> int:
    """Return the orientation that undoes this one."""
    permutation, flips = _parts(orientation)
    back = tuple(permutation.index(axis) for axis in range(3))
    return _number(back, tuple(flips[axis] for axis in back))


def _parts(orientation: int) -> tuple[Triple, tuple[bool, ...]]:
    """Axis i of the result is axis `permutation[i]` of the input, flipped if `flips[i]`."""
    return _PERMUTATIONS[orientation // 8], tuple(bool(orientation >> (2 - i) & 1) for i in range(3))


def _number(permutation: tuple[int, ...], flips: tuple[bool, ...]) -> int:
    return 8 * _PERMUTATIONS.index((permutation[0], permutation[1], permutation[2])) + sum(flip << (2 - i) for i, flip in enumerate(flips))
