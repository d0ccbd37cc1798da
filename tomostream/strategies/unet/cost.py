"""Project the memory of a residual U-Net's feature maps while planes stream through it.  The tests compare it with measured peaks."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

SLAB_BYTES = 4_000_000  # of a slab of planes: small enough for the cache, large enough to keep a convolution call busy


# Slabs of the finest level alive at the peak, including those of coarser levels and holes of the heap.  Beside the kernels' scratch memory 9 to 15.3
# are measured, another number in each run; what the highest exceed is 1 % of a block, and far less than the libraries' estimate leaves.
_LIVE_SLABS = 15


_KERNEL_BYTES = 60_000_000  # scratch memory and code of the convolution kernels, for a dozen block shapes; measured


_NETWORK_ITEMSIZE = {"float32": 4, "bf16": 2}


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """Memory of a residual U-Net's feature maps while planes stream through it (`strategies.unet.streaming`).

    Parameters
    ----------
    fixed_bytes
        Bytes of the weights and of the convolution kernels' scratch memory.
    plane_bytes
        Bytes per voxel of a plane (y, x), for the planes that wait in queues for the result of a coarser level.
    slab_voxel_bytes
        Bytes per voxel of a slab of the finest level.
    stride
        Smallest number of planes in a slab.
    """

    fixed_bytes: int
    plane_bytes: int
    slab_voxel_bytes: int
    stride: int

    def block_bytes(self, z: Any, y: Any, x: Any) -> Any:
        """Return the peak for a block of z, y, x voxels of the network's level; numbers or arrays.  Depth beyond a slab adds nothing."""
        plane = self.slab_voxel_bytes * y * x
        slab = np.maximum(self.stride * plane, np.minimum(SLAB_BYTES, z * plane))
        return self.fixed_bytes + self.plane_bytes * y * x + _LIVE_SLABS * slab


def network_cost(channels: tuple[int, ...], *, species: int, precision: str) -> NetworkCost:
    """Return the memory that a deployed residual U-Net takes besides its input and output.

    The result of a coarser level arrives late, because its block of two convolutions looks two planes ahead on the way down and two on the way up.
    Planes of level l wait for lag(l) = 2 (2 + lag(l + 1) + 2), without the last 2 if l + 1 is the coarsest: 4, 16, 40 planes of the finest level for
    2, 3, 4 levels.

    Parameters
    ----------
    channels
        Channels of the levels, finest first.
    species
        Number of outputs.
    precision
        Precision of the feature maps: float32 or bf16.
    """
    itemsize = _NETWORK_ITEMSIZE[precision]
    lag, waiting = 0, 0.0
    for level in reversed(range(len(channels) - 1)):
        lag = 4 if level == len(channels) - 2 else 2 * (lag + 4)
        waiting += lag * channels[level] / 4**level
    stride = 2 ** (len(channels) - 1)
    wide = (1, *channels)
    weights = sum(27 * (a * b + b * b) + 2 * a * b for a, b in itertools.pairwise(wide)) + sum(54 * c * c for c in channels[:-1])
    return NetworkCost(
        fixed_bytes=_KERNEL_BYTES + 3 * 4 * weights,  # three copies: as trained, as deployed, as reordered by the kernels
        plane_bytes=math.ceil(itemsize * waiting),
        slab_voxel_bytes=itemsize * channels[0] + 4 * species,
        stride=stride,
    )
