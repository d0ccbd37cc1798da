"""How large may a block be?  Pure arithmetic: memory is projected from shapes, before anything is read.

Half of what the libraries leave of the budget is for the blocks being processed, half for picks and undecided candidates.  Large blocks are best:
the fewer faces, the fewer undecided candidates and the less is read twice.  The block asked for, or the whole domain, is halved along its
longest edge until its window fits; once it is small the halo gives way, which costs more undecided candidates but no exactness.
"""

import functools
import math
from dataclasses import dataclass

from tomostream.errors import BudgetError
from tomostream.geometry import Triple, triple
from tomostream.picking.merging import POINT_BYTES
from tomostream.units import format_bytes

# of a window's voxel at the worst moment, every voxel a candidate: scores, index, sort, state (80), and the next window, being read and converted
VOXEL_BYTES = 96
SMOOTH_BYTES = 40  # ... and more where scores are averaged, of what is read for it
_SMALLEST = 8  # edge of the smallest block that is tried, voxels


@dataclass(frozen=True, slots=True)
class Plan:
    """Which blocks, with how much halo; `settling_bytes` are left for picks and undecided candidates."""

    block: Triple
    halo: int
    settling_bytes: int


def window_bytes(block: Triple, *, halo: int, radius: float, smooth: float, domain: Triple) -> int:
    """Return the bytes that one block takes at most, for a domain of this shape."""
    window = [min(n, b + 2 * halo) for n, b in zip(domain, block, strict=True)]
    read = [n + 2 * int(smooth) for n in window]
    ball = math.prod(min(2 * int(radius) + 1, 2 * n) for n in window)
    return VOXEL_BYTES * math.prod(window) + (SMOOTH_BYTES * math.prod(read) if smooth >= 1 else 0) + 12 * ball


def plan_blocks(
    domain: Triple,
    *,
    block: Triple | None,
    halo: int | None,
    radius: float,
    smooth: float,
    memory: int,
    libraries: int,
    workers: int,
) -> Plan:
    """Choose the largest blocks, up to `block`, that leave half of the memory to the picks.

    Parameters
    ----------
    domain
        Shape of the box that is picked from, voxels.
    block, halo
        The most that is wanted; None for as large as fits, and for the radius.
    radius, smooth
        In voxels; `smooth` is how far around a voxel scores are averaged or pooled.
    memory
        Budget of the process in bytes, libraries included.
    libraries
        What they take of it, bytes.
    workers
        Blocks processed at once in this process.

    Raises
    ------
    BudgetError
        If not even the smallest block fits.
    """
    share = (memory - libraries) // 2
    edges = list(domain if block is None else (min(b, n) for b, n in zip(block, domain, strict=True)))
    margin = int(radius) if halo is None else halo
    project = functools.partial(window_bytes, radius=radius, smooth=smooth, domain=domain)
    while (needed := workers * project(triple(edges), halo=margin)) > share:
        longest = max(range(3), key=lambda axis: edges[axis])
        if edges[longest] <= max(4 * _SMALLEST, margin) and margin > 0:
            margin //= 2
        elif edges[longest] > _SMALLEST:
            half = -(-edges[longest] // 2)
            edges[longest] = -(-half // 64) * 64 if half > 64 else half  # chunks of a store are whole in multiples of 64
        else:
            raise BudgetError(
                f"picking needs {format_bytes(libraries + 2 * needed)} even in blocks of {edges[longest]} voxels (radius {radius:g}, "
                f"smoothing {smooth:g} voxels, {workers} at a time), but the memory budget is {format_bytes(memory)}: "
                "raise the budget, or use fewer workers"
            )
    return Plan(triple(edges), margin, share)


def check_count(count: int | None, settling_bytes: int) -> None:
    """Refuse a count whose picks can't be held in `settling_bytes`.

    Raises
    ------
    BudgetError
        If they can't.
    """
    if count is not None and 2 * count * POINT_BYTES > settling_bytes:
        raise BudgetError(
            f"{count} picks need {format_bytes(2 * count * POINT_BYTES)}, but the memory budget leaves {format_bytes(settling_bytes)} for them "
            f"({settling_bytes // (2 * POINT_BYTES)} picks); give a smaller count, or raise the budget"
        )
