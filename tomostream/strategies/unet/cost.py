"""Memory of a residual U-Net's feature maps while its planes stream. Arithmetic, checked against measured peaks in the tests."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

SLAB_BYTES = 4_000_000  # of one slab of planes that streams through a network: fits the cache, and still is work enough for a call


_LIVE_SLABS = 15  # slabs of the finest level at the peak, with those of coarser levels and the heap's holes: measured 9 to 16


_KERNEL_BYTES = 60_000_000  # scratch and code of the convolution kernels, for blocks of a dozen shapes: measured


_NETWORK_ITEMSIZE = {"float32": 4, "bf16": 2}


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """What a residual U-Net's feature maps take while planes stream through it (`strategies.unet.streaming`).

    Parameters
    ----------
    fixed_bytes
        Weights, and scratch of the convolution kernels.
    plane_bytes
        A voxel of the plane (y, x): the planes that wait for a coarser level's answer.
    slab_voxel_bytes
        A voxel of a slab of the finest level.
    stride
        Fewest planes of a slab.
    """

    fixed_bytes: int
    plane_bytes: int
    slab_voxel_bytes: int
    stride: int

    def block_bytes(self, z: Any, y: Any, x: Any) -> Any:
        """Peak for a block of z, y, x voxels of the network's level; numbers, or arrays of them.  Depth beyond a slab does not matter."""
        plane = self.slab_voxel_bytes * y * x
        slab = np.maximum(self.stride * plane, np.minimum(SLAB_BYTES, z * plane))
        return self.fixed_bytes + self.plane_bytes * y * x + _LIVE_SLABS * slab


def network_cost(channels: tuple[int, ...], *, species: int, precision: str) -> NetworkCost:
    """Return what a deployed residual U-Net takes besides its input and output.

    A coarser level's answer comes late: its block of two convolutions looks two planes ahead on the way down and two on the way up.
    Planes of level l wait for lag(l) = 2 (2 + lag(l + 1) + 2), without the last 2 if l + 1 is the coarsest: 4, 16, 40 planes of the
    finest level for 2, 3, 4 levels.

    Parameters
    ----------
    channels
        Of the levels, finest first.
    species
        Number of outputs.
    precision
        Of the feature maps: float32 or bf16.
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
        fixed_bytes=_KERNEL_BYTES + 3 * 4 * weights,  # as trained, as deployed, as the kernels reorder them
        plane_bytes=math.ceil(itemsize * waiting),
        slab_voxel_bytes=itemsize * channels[0] + 4 * species,
        stride=stride,
    )
