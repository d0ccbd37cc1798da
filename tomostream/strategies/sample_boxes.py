"""Choose boxes of tomograms, at random or around positions, for measurements that need only a part of a volume."""

import math
from collections.abc import Sequence

import numpy as np

from tomostream.geometry import Box, Triple, triple
from tomostream.tomogram import Tomogram

AROUND = 2.2  # half-edge of the box around a click whose peak is ranked, in radii
MEASURED_VOX = 4_000_000  # voxels of all boxes together, so that measuring takes seconds
MOST_MEASURED_VOX = 20_000_000  # the same where particles are too few in so small a part of a volume


def box_within(tomogram: Tomogram, voxels: int, rng: np.random.Generator) -> Box:
    """Return a box of at most `voxels` voxels at a random position; its edges are those of the volume, the longest halved until it fits."""
    edges = list(tomogram.shape)
    while math.prod(edges) > max(voxels, 1):
        axis = edges.index(max(edges))
        edges[axis] = -(-edges[axis] // 2)
    return _placed(tomogram.shape, edges, rng)


def random_cube(shape: Triple, edge: int, rng: np.random.Generator) -> Box:
    """Return a cube of `edge` voxels at a random position; an edge is that of the volume where that is shorter."""
    return _placed(shape, [min(edge, n) for n in shape], rng)


def random_cubes(shape: Triple, edge: int, most: int, rng: np.random.Generator) -> list[Box]:
    """Return `most` boxes as `random_cube` draws them; fewer, if fewer fill the volume."""
    wanted = min(most, math.ceil(math.prod(shape) / math.prod(min(edge, n) for n in shape)))
    return [random_cube(shape, edge, rng) for _ in range(wanted)]


def box_around(point: Sequence[float] | np.ndarray, half: float, shape: Triple) -> Box:
    """Return the box that reaches `half` voxels, rounded up, and one more to each side of a position's voxel, as far as it is in the volume."""
    reach = math.ceil(half) + 1
    middle = [min(max(math.floor(p + 0.5), 0), n - 1) for p, n in zip(point, shape, strict=True)]
    return Box(triple([m - reach for m in middle]), triple([m + reach + 1 for m in middle])).clipped(Box.whole(shape))


def _placed(shape: Triple, edges: Sequence[int], rng: np.random.Generator) -> Box:
    """Return a box of these edges at a random position inside a volume."""
    start = triple([int(rng.integers(0, n - e + 1)) for n, e in zip(shape, edges, strict=True)])
    return Box(start, triple([a + e for a, e in zip(start, edges, strict=True)]))
