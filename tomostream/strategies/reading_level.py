"""Choose the pyramid level that a network reads."""

from collections.abc import Iterable

from tomostream import defaults
from tomostream.config.sections import Species


def choose_level(species: Iterable[Species], spacing: float, level: int | str) -> int:
    """Return the level asked for, or with `auto` the coarsest at which the smallest radius has at least `defaults.MIN_RADIUS_VOX` voxels.

    Each level has 8 times fewer voxels than the one below, so training and inference are faster by that factor.  In the same time, a coarser level
    gives better results, as long as the shape of the particle is still visible.

    Parameters
    ----------
    species
        The species with their radii.
    spacing
        Voxel spacing of level 0, in angstrom.
    level
        A level, or `auto`.
    """
    if level != "auto":
        return int(level)
    radius = min(s.radius.in_voxels(spacing) for s in species)
    chosen = 0
    while radius / 2 ** (chosen + 1) >= defaults.MIN_RADIUS_VOX:
        chosen += 1
    return chosen
