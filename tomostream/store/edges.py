"""Which chunks and shards divide a volume well?  Those near the nominal edges whose last chunks hardly leave the volume.

Zarr stores whole chunks: 72 slices in chunks of 64 take the space of 128.  So, unless edges are given, they are chosen axis by axis:

1. A chunk's edge is the one nearest to the nominal (64) of which whole chunks exceed the axis by at most 1/64 of it; among near ones a
   multiple of 8 is taken, because blocks of networks begin there without computing more.  There always is one between 48 and 96: of
   round(n / 64) equal chunks the last lacks less than a voxel for each of them.
2. An axis of at most 320 voxels is one shard.  A longer one has shards of whole chunks, near the nominal (256), whose edge can be halved
   for every pyramid level; of up to 448 voxels it is one shard where no such edge does.
3. The chunks of coarser levels divide the level's shards; the coarser a level, the more of it may be beyond the volume.

In all, what is stored is at most 1.05 times the voxels (`tests/store/test_edges.py`).  Each axis is chosen as if the others wasted as much at each
level: what different axes waste together is no more, by Hoelder's inequality.  A pure planner.

Limits: where shards must be halved more than five times no edge may do; then the one that wastes least is taken.
"""

import math
from collections.abc import Iterator
from functools import lru_cache

from tomostream import defaults
from tomostream.geometry import Triple, triple

_ENOUGH = 0.045  # voxels stored beyond the volume, over its voxels, that is not worth odd edges
_MOST_PADDING = 1 / 64  # of an axis: (1 + 1/64)^3 < 1.05
_COARSE_PADDING = (_MOST_PADDING, 1 / 64, 1 / 8)  # of levels 0, 1, 2 and coarser: level 2 has a 64th of a cube's voxels
_SMALLEST_CHUNK_VOX, _LARGEST_CHUNK_VOX = 20, 96
_SMALLEST_COARSE_CHUNK_VOX = 16
_ONE_SHARD_VOX = 320  # an axis of at most this many voxels is one shard
_SMALLEST_SHARD_VOX, _LARGEST_SHARD_VOX = 128, 448
_ALIGNMENT = 8  # edges that are no multiple of it count as this many voxels farther from the nominal one


def padding(n: int, chunk: int) -> float:
    """How far whole chunks exceed an axis, as a fraction of it.

    >>> padding(72, 48)
    0.33333333333333326
    """
    return -(-n // chunk) * chunk / n - 1


@lru_cache(maxsize=4096)
def even_edge(n: int) -> int:
    """The chunk's edge for an axis of `n` voxels whose shards may be any number of chunks.

    >>> [even_edge(n) for n in (40, 72, 112, 500, 1000, 1024)]
    [40, 72, 56, 72, 72, 64]
    """
    edges = range(min(n, _SMALLEST_CHUNK_VOX), min(n, _LARGEST_CHUNK_VOX) + 1)
    return min((edge for edge in edges if padding(n, edge) <= _MOST_PADDING), key=_distance)


def even_chunk(shape: Triple) -> Triple:
    """The chunk for a volume of one level whose shards may be any number of chunks."""
    return triple([even_edge(n) for n in shape])


@lru_cache(maxsize=4096)
def even_edges(n: int, voxels: tuple[int, ...], axes: int) -> tuple[tuple[int, int], ...]:
    """The edges of chunk and shard along an axis of `n` voxels, for each level.

    Parameters
    ----------
    n
        Voxels of level 0 along the axis.
    voxels
        The volume's, of each level.
    axes
        Number of its axes that are longer than a voxel.
    """
    levels = len(voxels)
    if n > _ONE_SHARD_VOX:
        found = min((_halved(n, c, s, levels) for c, s in _candidates(levels)), key=lambda edges: _order(n, edges, voxels, axes))
        if n > _LARGEST_SHARD_VOX or _waste(n, found, voxels, axes) <= _ENOUGH:
            return found
    lengths = [-(-n // 2**level) for level in range(levels)]
    return tuple((chunk, -(-length // chunk) * chunk) for length in lengths for chunk in (even_edge(length),))


def coarser_edges(n: int, shard: int, level: int) -> tuple[int, int]:
    """The edges of chunk and shard along an axis of a coarser level alone, one of its shards for each of level 0.

    Parameters
    ----------
    n
        Voxels of level 0 along the axis.
    shard
        Edge of its shards; a multiple of 2^level, unless it spans the axis.
    level
        The coarser level.

    >>> coarser_edges(72, 72, 1), coarser_edges(1000, 504, 1)
    ((36, 36), (84, 252))
    """
    length = -(-n // 2**level)
    if shard >= n:
        chunk = even_edge(length)
        return chunk, -(-length // chunk) * chunk
    return _coarse_chunk(length, shard // 2**level, level), shard // 2**level


def _candidates(levels: int) -> Iterator[tuple[int, int]]:
    """Chunks and shards whose shard can be halved for every level."""
    step = 2 ** (levels - 1)
    for shard in range(step * -(-_SMALLEST_SHARD_VOX // step), max(_LARGEST_SHARD_VOX, step) + 1, step):
        for count in range(-(-shard // _LARGEST_CHUNK_VOX), max(1, shard // _SMALLEST_CHUNK_VOX) + 1):
            if shard % count == 0:
                yield shard // count, shard


def _halved(n: int, chunk: int, shard: int, levels: int) -> tuple[tuple[int, int], ...]:
    coarse = [(_coarse_chunk(-(-n // 2**level), shard // 2**level, level), shard // 2**level) for level in range(1, levels)]
    return ((chunk, shard), *coarse)


def _coarse_chunk(n: int, shard: int, level: int) -> int:
    """The divisor of a coarse level's shard that makes good chunks: little padding first, few chunks then."""
    edges = [c for c in range(min(shard, _SMALLEST_COARSE_CHUNK_VOX), min(shard, _LARGEST_CHUNK_VOX) + 1) if shard % c == 0]
    most = _COARSE_PADDING[min(level, 2)]
    return min(edges or [shard], key=lambda chunk: (max(most, padding(n, chunk)), -chunk))


def _order(n: int, edges: tuple[tuple[int, int], ...], voxels: tuple[int, ...], axes: int) -> tuple[float, float]:
    """What wastes little comes first, then what is near the nominal edges at level 0, and has few chunks at level 1, which training reads."""
    (chunk, shard), coarse = edges[0], edges[1][0] if len(edges) > 1 else defaults.CHUNK_VOX
    far = (
        _distance(chunk) / defaults.CHUNK_VOX + abs(math.log(shard / defaults.SHARD_VOX)) + max(0.0, math.log(defaults.CHUNK_VOX / coarse))
    )
    return max(_ENOUGH, _waste(n, edges, voxels, axes)), far


def _waste(n: int, edges: tuple[tuple[int, int], ...], voxels: tuple[int, ...], axes: int) -> float:
    """Voxels stored beyond the volume, over its voxels, all levels together, if all axes exceeded it as this one does."""
    exceeds = [padding(-(-n // 2**level), chunk) for level, (chunk, _) in enumerate(edges)]
    return sum(count * (1 + e) ** axes for count, e in zip(voxels, exceeds, strict=True)) / sum(voxels) - 1


def _distance(chunk: int) -> int:
    return abs(chunk - defaults.CHUNK_VOX) + (_ALIGNMENT if chunk % _ALIGNMENT else 0)
