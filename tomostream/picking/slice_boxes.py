"""Which boxes does each slice have?  The peaks of every x-y plane after 2-D non-maximum suppression, slice after slice, out of core.

1. A voxel is a candidate if it is above the floor, and comes before its eight neighbours in its plane in the order of descending score (ties: the
   smaller index).  That needs one voxel around a block, and a plateau has one candidate.
2. All blocks of one layer are read; their candidates are held, slice by slice.
3. Per slice, candidates in the same order: one is a box unless a box lies within the suppression's distance.

Boxes above a higher floor are the first of the boxes above a lower one.  They don't depend on the blocks.

Limits: of a layer, all candidates are held; too many of them are refused, with their number.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy import ndimage

from tomostream.errors import BudgetError
from tomostream.geometry import BlockGrid, Triple
from tomostream.picking.windows import ScoreWindows
from tomostream.units import format_bytes

BOX_BYTES = 100  # of a held candidate, box or trace: itself, and its part of a sort
# neighbours in a plane with smaller indices (first row, and left), and with larger ones
_EARLIER = np.array([[[1, 1, 1], [1, 0, 0], [0, 0, 0]]], dtype=bool)
_LATER = _EARLIER[:, ::-1, ::-1]


@dataclass(frozen=True, slots=True)
class Boxes:
    """The boxes of one slice, best first: centres y x in voxels of the volume, and scores."""

    z: int
    index_yx: Int64[np.ndarray, "n 2"]
    score: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.score)


def boxes_of_slices(
    source: ScoreWindows, *, block: Triple, distance: float, floor: Callable[[], float], memory: int, advance: Callable[[], object]
) -> Iterator[Boxes]:
    """Find the boxes of every slice of the domain, z ascending.

    Parameters
    ----------
    source
        The scores.
    block
        Edges of the blocks that are read, voxels, counted from the volume's corner.
    distance
        Two boxes of a slice lie farther apart than this, voxels.
    floor
        Gives the score above which boxes are wanted; asked for each block and slice.
    memory
        Bytes that candidates may take.
    advance
        Called after each block.

    Raises
    ------
    BudgetError
        If the candidates of a layer of blocks don't fit the memory.
    """
    grid = BlockGrid(source.shape, block)
    layer: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    cores = [grid.core(index).clipped(source.domain) for index in grid.touching(source.domain)]
    held = 0
    for core, following in zip(cores, [*cores[1:], None], strict=True):
        window = core.expanded((0, 1, 1)).clipped(source.domain)
        is_peak, scores = _peaks(source.scores(window), floor())
        inside = core.relative_to(window.start).slices
        place = np.argwhere(is_peak[inside]).astype(np.int64)
        values = scores[inside][tuple(place.T)].astype(np.float64)
        place += core.start
        held += len(place)
        if held * BOX_BYTES > memory:
            raise BudgetError(
                f"the slices {core.start[0]} to {core.stop[0] - 1} have more than {held} peaks above {floor():g}, but {format_bytes(memory)} of memory "
                f"can hold {memory // BOX_BYTES}: raise the threshold or the memory"
            )
        first = np.searchsorted(place[:, 0], np.arange(core.start[0], core.stop[0] + 1))
        for z, (start, stop) in enumerate(zip(first[:-1].tolist(), first[1:].tolist(), strict=True), core.start[0]):
            layer.setdefault(z, []).append((place[start:stop, 1:], values[start:stop]))
        advance()
        if following is None or following.start[0] != core.start[0]:
            for z in range(core.start[0], core.stop[0]):
                parts = layer.pop(z)
                yield _suppressed(
                    z, np.concatenate([p for p, _ in parts]), np.concatenate([s for _, s in parts]), source, distance, floor()
                )
            held = 0


def _peaks(scores: Float[np.ndarray, "z y x"], floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Which voxels are candidates; and the scores, -inf where missing."""
    known = np.where(np.isnan(scores), -np.inf, scores)
    is_peak = known > np.float64(floor)
    if is_peak.any():
        is_peak &= known > ndimage.maximum_filter(known, footprint=_EARLIER, mode="constant", cval=-np.inf)
        is_peak &= known >= ndimage.maximum_filter(known, footprint=_LATER, mode="constant", cval=-np.inf)
    return is_peak, known


def _suppressed(z: int, place: np.ndarray, score: np.ndarray, source: ScoreWindows, distance: float, floor: float) -> Boxes:
    """Greedy suppression on one slice: a box paints a disc on which there is no other."""
    wanted = np.flatnonzero(score > floor)
    wanted = wanted[np.lexsort((place[wanted, 1], place[wanted, 0], -score[wanted]))]
    start, stop = source.domain.start[1:], source.domain.stop[1:]
    reach = int(distance)
    offset = np.arange(-reach, reach + 1)
    disc = offset[:, None] ** 2 + offset**2 <= distance * distance
    # as wide as the domain and a disc's reach more, so that discs never leave it
    taken = np.zeros((stop[0] - start[0] + 2 * reach, stop[1] - start[1] + 2 * reach), dtype=bool)
    kept = []
    for i, (y, x) in zip(wanted.tolist(), (place[wanted] - np.array(start)).tolist(), strict=True):
        if not taken[y + reach, x + reach]:
            taken[y : y + 2 * reach + 1, x : x + 2 * reach + 1] |= disc
            kept.append(i)
    return Boxes(z, place[kept], score[kept])
