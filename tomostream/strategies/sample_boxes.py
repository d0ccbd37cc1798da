"""Choose random boxes of tomograms, for measurements that need only a part of a volume."""

import math

import numpy as np

from tomostream.geometry import Box, triple
from tomostream.tomogram import Tomogram

MEASURED_VOX = 4_000_000  # voxels of all boxes together, so that measuring takes seconds


def box_within(tomogram: Tomogram, voxels: int, rng: np.random.Generator) -> Box:
    """Return a box of at most `voxels` voxels at a random position; its edges are those of the volume, the longest halved until it fits."""
    edges = list(tomogram.shape)
    while math.prod(edges) > max(voxels, 1):
        axis = edges.index(max(edges))
        edges[axis] = -(-edges[axis] // 2)
    start = triple([int(rng.integers(0, n - e + 1)) for n, e in zip(tomogram.shape, edges, strict=True)])
    return Box(start, triple([a + e for a, e in zip(start, edges, strict=True)]))
