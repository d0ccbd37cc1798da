"""In which pieces is a file read, so that each shard is written once, completely, and within the memory?

A band is one shard deep in z.  Full x rows are the longest consecutive reads of an MRC file, so a band spans full x and as many rows
of shards as fit into the memory; if not even one row fits, it spans whole shards along x:

    one row of shards fits          only some shards fit
    +---+---+---+---+               +---+---+ - + - +
    |     band      |               | band  |   |   |
    +---+---+---+---+               +---+---+ - + - +
    |               |               |   |   |   |   |

A pure planner: no I/O.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from tomostream.geometry import BlockGrid, Box, Triple


@dataclass(frozen=True, slots=True)
class Band:
    """A box that is read at once, and the shards that fill it exactly."""

    box: Box
    shards: tuple[Triple, ...]


def plan_bands(shards: BlockGrid, *, most_voxels: int) -> tuple[Band, ...]:
    """Cut a volume into bands of at most `most_voxels`, z slowest.

    Raises
    ------
    ValueError
        If not even one shard fits.
    """
    deep, high, wide = shards.core((0, 0, 0)).shape
    if deep * high * wide > most_voxels:
        raise ValueError(f"a shard of {deep * high * wide} voxels doesn't fit a band of at most {most_voxels}")
    nz, ny, nx = shards.counts
    across = nx if deep * high * shards.shape[2] <= most_voxels else most_voxels // (deep * high * wide)
    # a row of shards across the whole volume may fit because its last shard is short
    width = shards.shape[2] if across >= nx else across * wide
    rows = max(1, most_voxels // (deep * high * width)) if across >= nx else 1
    return tuple(
        _band(shards, z, range(y, min(y + rows, ny)), range(x, min(x + across, nx)))
        for z, y, x in itertools.product(range(nz), range(0, ny, rows), range(0, nx, across))
    )


def _band(shards: BlockGrid, z: int, rows: range, columns: range) -> Band:
    indices: Iterator[Triple] = ((z, y, x) for y in rows for x in columns)
    first, last = shards.core((z, rows[0], columns[0])), shards.core((z, rows[-1], columns[-1]))
    return Band(Box(first.start, last.stop), tuple(indices))
