"""Can these be the positions of particles?  Checks that know nothing of the tomograms."""

import numpy as np

from tomostream.errors import InputError

_MARGIN = 0.1  # by which fractions of a volume may lie outside of 0..1: particles on its faces


def check_finite(position_zyx: np.ndarray, where: str) -> None:
    """Refuse positions that are not finite.

    Raises
    ------
    InputError
        With the first such row.
    """
    bad = ~np.isfinite(position_zyx).all(axis=1)
    if bad.any():
        i = int(np.argmax(bad))
        z, y, x = position_zyx[i].tolist()
        raise InputError(
            f"{where}: every position must be finite, particle {i + 1} is at x {x:g}, y {y:g}, z {z:g} ({np.count_nonzero(bad)} such)"
        )


def check_fractions(position_zyx: np.ndarray, where: str) -> None:
    """Refuse positions that all lie within 0..1, or little outside of it, and are not whole numbers.

    Raises
    ------
    InputError
        If they are: no tomogram has all its particles in its first voxel.
    """
    if len(position_zyx) and position_zyx.min() >= -_MARGIN and position_zyx.max() <= 1 + _MARGIN and (position_zyx % 1).any():
        raise InputError(
            f"{where}: all coordinates lie within 0..1 or close to it, so they are fractions of the volume, as WarpTools' matching writes them; multiply "
            "x, y and z by the volume's size in voxels (its x, y, z) and import them as voxels"
        )
