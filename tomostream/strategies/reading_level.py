"""Choose the pyramid level that a network reads: the coarsest that still shows the smallest particle."""

from collections.abc import Iterable

from tomostream import defaults
from tomostream.config.sections import Species


def choose_level(species: Iterable[Species], spacing: float, level: int | str) -> int:
    """Return the pyramid level that is read: the one asked for, or the coarsest that keeps the smallest particle's radius.

    "Keeps" means at least `defaults.MIN_RADIUS_VOX` voxels: each level has 8 times fewer voxels, so training and inference are faster by
    as much, and at equal time coarser wins as long as the particle's shape is still seen.
    """
    if level != "auto":
        return int(level)
    radius = min(s.radius.in_voxels(spacing) for s in species)
    chosen = 0
    while radius / 2 ** (chosen + 1) >= defaults.MIN_RADIUS_VOX:
        chosen += 1
    return chosen
