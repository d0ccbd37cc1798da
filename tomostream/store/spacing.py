"""Is a voxel spacing one that a tomogram may have?  Two bounds, said in one place."""

from __future__ import annotations

LEAST_ANG, MOST_ANG = 0.5, 100.0  # of an electron tomogram's voxel: an atom's, and ten times what binning leaves
AGREES = 0.01  # relative difference of two spacings of one tomogram that rounding explains


def spacing_doubt(spacing: float) -> str | None:
    """Say why a spacing (angstrom) needs a look, if it does."""
    if LEAST_ANG <= spacing <= MOST_ANG:
        return None
    return (
        f"the voxel spacing is {spacing:g} angstrom, which no electron tomogram has ({LEAST_ANG:g} to {MOST_ANG:g}); look at its metadata, and if they are "
        "wrong write it anew, or give --voxel-size ANGSTROM"
    )
