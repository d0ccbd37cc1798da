"""Is a voxel spacing plausible for a tomogram?  The one place with the two bounds."""

from __future__ import annotations

LEAST_ANG, MOST_ANG = 0.5, 100.0  # edges of an electron tomogram's voxel: below an atom's size, and ten times the usual binned voxel
AGREES = 0.01  # relative difference of two spacings of one tomogram that rounding can explain


def size_doubt(voxel_size: float) -> str | None:
    """Return why a voxel size (angstrom) that the caller gives should be checked, if it should."""
    if LEAST_ANG <= voxel_size <= MOST_ANG:
        return None
    return f"--voxel-size {voxel_size:g} angstrom is implausible for an electron tomogram ({LEAST_ANG:g} to {MOST_ANG:g}); is it in another unit?"


def spacing_doubt(spacing: float) -> str | None:
    """Return why a voxel spacing (angstrom) should be checked, if it should."""
    if LEAST_ANG <= spacing <= MOST_ANG:
        return None
    return (
        f"the voxel spacing is {spacing:g} angstrom, which is implausible for an electron tomogram ({LEAST_ANG:g} to {MOST_ANG:g}); check the metadata, and if they are "
        "wrong, correct them, or give --voxel-size ANGSTROM"
    )
