"""How is a volume averaged to coarser levels, and how are the levels laid out in chunks and shards?

A voxel of level k + 1 is the mean of the 2 x 2 x 2 voxels of level k that it covers, or of fewer at an odd far end; so the
edge of the coarser level is ceil(n / 2).

1. Pairs are averaged along z, then y, then x: `(a + b) / 2`, an unpaired voxel stays.  Counts are powers of two, so the steps divide
   exactly, and each result depends on its own eight voxels only: it is the same bit for bit for any cut at even voxels.
2. The sums are float32, or float64 where the type holds more than float32 does.  A stored level has the volume's own type: integers
   are rounded half to even, and the next level starts from the stored values.
3. A shard of level k has the edge of a level-0 shard / 2^k.  One level-0 shard therefore fills exactly one shard of each coarser
   level.  Along an axis that one shard covers, the edge is only as long as needed.

Limits: a NaN or infinity spreads to the voxels above it; the sum of two values beyond half of the float range overflows to infinity.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Triple, triple
from tomostream.store.edges import even_edges

_SMALL_VOLUME_VOX = 64  # levels stop at the first whose largest edge is at most this
_SMALL_SHARD_VOX = 16  # ... and before a shard's edge falls below this
_SLAB_VOX = 16  # planes averaged at a time: the intermediate sums stay small


@dataclass(frozen=True, slots=True)
class LevelLayout:
    """One pyramid level: the volume's, a chunk's and a shard's shape in voxels (z y x); the chunk divides the shard."""

    shape: Triple
    chunk: Triple
    shard: Triple

    @property
    def shards(self) -> BlockGrid:
        """The level's shards as a block grid."""
        return BlockGrid(self.shape, self.shard)

    @property
    def stored_voxels(self) -> int:
        """Voxels of all chunks, those beyond the volume included."""
        return math.prod(-(-n // c) * c for n, c in zip(self.shape, self.chunk, strict=True))


def level_shape(shape: Triple, level: int) -> Triple:
    """The shape of pyramid level `level` of a volume whose level 0 has `shape`: ceil(n / 2^level)."""
    return triple([-(-n // 2**level) for n in shape])


def sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which voxels of `dtype` are averaged: float32, or float64 where float32 does not hold every value."""
    return np.dtype(np.float32) if np.can_cast(dtype, np.float32) else np.dtype(np.float64)


def mean_pooled(block: Shaped[np.ndarray, "z y x"]) -> Shaped[np.ndarray, "z2 y2 x2"]:
    """Average 2 x 2 x 2 voxels, or fewer at odd far ends.

    Parameters
    ----------
    block
        Voxels of one level, the first at an even index of the volume along each axis.

    Returns
    -------
    The next level, edges ceil(n / 2), as float32 or float64 (see `sum_dtype`), not rounded.
    """
    dtype = sum_dtype(block.dtype)
    result = np.empty(level_shape(triple(block.shape), 1), dtype=dtype)
    # inf - inf and overflow give NaN and inf, as the mean of such voxels is
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, block.shape[0], _SLAB_VOX):
            slab = _halved(block[start : start + _SLAB_VOX], 0, dtype)
            result[start // 2 : start // 2 + slab.shape[0]] = _halved(_halved(slab, 1, dtype), 2, dtype)
    return result


def _halved(block: np.ndarray, axis: int, dtype: np.dtype[Any]) -> np.ndarray:
    first, second = (block[(slice(None),) * axis + (slice(offset, None, 2),)] for offset in (0, 1))
    result = first.astype(dtype)
    paired = result[(slice(None),) * axis + (slice(0, second.shape[axis]),)]
    paired += second
    paired *= 0.5
    return result


def rounded_to(block: Shaped[np.ndarray, "z y x"], dtype: np.dtype[Any]) -> Shaped[np.ndarray, "z y x"]:
    """Bring averaged voxels to a stored type: integers half to even.  A mean never leaves the range of what it averages."""
    return np.rint(block).astype(dtype) if dtype.kind in "iu" else block.astype(dtype, copy=False)


def plan_levels(shape: Triple, *, chunk: Triple | None, shard: Triple | None, levels: int | None) -> tuple[LevelLayout, ...]:
    """Lay out a pyramid.

    Parameters
    ----------
    shape
        Of level 0, voxels.
    chunk, shard
        Wanted edges at level 0, voxels.  The shard is rounded up to whole chunks; neither is longer than the volume needs.  Where neither
        is given they are chosen so that they divide the volume well (`edges`); of one alone, the other is the nominal one.
    levels
        Number of levels with level 0; None: halve until the largest edge is at most 64 or a shard's edge would fall below 16.

    Raises
    ------
    InputError
        If an edge or `levels` is below 1, or a shard can't be halved that often.
    """
    is_chosen = chunk is None and shard is None
    chunk, shard = chunk or triple(defaults.CHUNK_VOX), shard or triple(defaults.SHARD_VOX)
    for what, edges in (("shape", shape), ("chunk", chunk), ("shard", shard)):
        if min(edges) < 1:
            raise InputError(f"{what} {edges}: each edge must be at least 1 voxel (z, y, x)")
    chunk = triple([min(c, n) for c, n in zip(chunk, shape, strict=True)])
    whole = triple([_round_up(s, c) for s, c in zip(shard, chunk, strict=True)])
    automatic = 1
    while max(level_shape(shape, automatic - 1)) > _SMALL_VOLUME_VOX and _can_halve(shape, whole, automatic, _SMALL_SHARD_VOX):
        automatic += 1
    if levels is None:
        levels = automatic
    most = 1
    while max(level_shape(shape, most - 1)) > 1 and _can_halve(shape, whole, most, 1):
        most += 1
    if not 1 <= levels <= most:
        raise InputError(
            f"levels {levels}: a volume of {shape} voxels in shards of {whole} can have 1 to {most} levels, because each halves the shard; "
            f"take at most {most}, or a shard that is a multiple of {2 ** max(levels - 1, 0)}"
        )
    if is_chosen:
        voxels = tuple(math.prod(level_shape(shape, level)) for level in range(levels))
        along = [even_edges(n, voxels, sum(edge > 1 for edge in shape)) for n in shape]
        return tuple(
            LevelLayout(level_shape(shape, level), *(triple([axis[level][part] for axis in along]) for part in (0, 1)))
            for level in range(levels)
        )
    return tuple(_layout(shape, chunk, whole, level) for level in range(levels))


def seam_layout(counts: Triple, values: int) -> LevelLayout:
    """Return the layout of the seams: one row of values for each of a level's shards (numbers along z, y, x), with the shard's own index."""
    row = (1, 1, values)
    return LevelLayout((counts[0], counts[1], counts[2] * values), row, row)


def _can_halve(shape: Triple, shard: Triple, level: int, least: int) -> bool:
    """Whether the shards of `level` have whole edges of at least `least`; an axis of one shard is no constraint."""
    return all(s >= n or (s % 2**level == 0 and s // 2**level >= least) for n, s in zip(shape, shard, strict=True))


def _layout(shape: Triple, chunk: Triple, shard: Triple, level: int) -> LevelLayout:
    chunks: list[int] = []
    shards: list[int] = []
    edges = level_shape(shape, level)
    for n, c, s, edge in zip(shape, chunk, shard, edges, strict=True):
        if s >= n:
            chunks.append(min(c, edge))
            shards.append(_round_up(edge, chunks[-1]))
        else:
            shards.append(s // 2**level)
            chunks.append(c if shards[-1] % c == 0 else math.gcd(c, shards[-1]))
    return LevelLayout(edges, triple(chunks), triple(shards))


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
