"""Project the memory of a training step of the slice detector on a CPU.  The tests compare it with measured peaks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tomostream import defaults
from tomostream.config.configuration import LearningSettings
from tomostream.geometry import Triple
from tomostream.strategies.reading_level import choose_level
from tomostream.units import Length

# at the peak of a step; just above the measured peaks
_KERNEL_BYTES = 90_000_000  # scratch memory of the convolution kernels
_VOXEL_BYTES = 280  # per voxel of the slabs: images and the loss
_LABEL_BYTES = 30  # per voxel and species
_CHANNEL_BYTES = {"float32": 14, "bf16": 10}  # per value of the feature maps


def slab_step_bytes(channels: Sequence[int], slab: Triple, *, batch: int, species: int, precision: str) -> int:
    """Return the peak memory of a training step, in bytes, without libraries.

    Parameters
    ----------
    channels
        Channels of the levels, finest first; a level has a quarter of the pixels of the one before.
    slab
        Edges of a slab, in voxels.
    batch, species
        Number of slabs in a step, and of species.
    precision
        Precision of the feature maps: float32 or bf16.
    """
    values = sum(count / 4.0**level for level, count in enumerate(channels))
    voxel = _VOXEL_BYTES + _LABEL_BYTES * species + _CHANNEL_BYTES[precision] * values
    return _KERNEL_BYTES + math.ceil(batch * math.prod(slab) * voxel)


def expected_half_height(settings: LearningSettings) -> float:
    """Return half the height of the highest label, in voxels of the level, as far as the configuration tells.

    Lengths in angstrom are taken as if the level were the coarsest at which the smallest radius is large enough (`auto`).  At a finer level slabs are
    higher; training checks that when it knows the voxel spacing (`training.train_slices`).
    """
    radii = [one.radius for one in settings.species]
    given = settings.train.label_radius
    level = settings.network.level
    if level != "auto":
        scale = 2.0 ** int(level)
    else:
        scale = 2.0 ** choose_level(settings.species, 1.0, level) if all(radius.is_voxels for radius in radii) else 1.0
    smallest = min((radius.value for radius in radii if not radius.is_voxels), default=math.inf)

    def vox(length: Length) -> float:
        if length.is_voxels:
            return length.value / scale
        return 2 * defaults.MIN_RADIUS_VOX * length.value / min(smallest, length.value)

    return max(defaults.SLICES2D_LABEL_HEIGHT * vox(radius) for radius in radii) if given is None else vox(given)
