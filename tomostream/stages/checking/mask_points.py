"""Which table has the points of a damaged label mask?

1. The tomogram that the mask was made for must be there, as it was.
2. Tables around it are read as the mask's own was; the one whose points have the recorded hash serves, whatever its name.
3. The answer, or why there is none, holds for all shards of the mask: nothing is read twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tomostream.errors import BudgetError, InputError, TomostreamError
from tomostream.geometry import Triple
from tomostream.stages.checking.sources import Sources
from tomostream.tomogram import Tomogram

if TYPE_CHECKING:
    from tomostream.stages.labels.painted_points import PaintedPoints
    from tomostream.stages.labels.repainting import PaintedMask


class MaskPainter:
    """Paints shards of a mask again; nothing is read before the first.

    Parameters
    ----------
    mask
        The store.
    sources
        Where its tomogram and table are looked for.
    memory
        Budget of the process, bytes.
    """

    def __init__(self, mask: Tomogram, sources: Sources, *, memory: int) -> None:
        self._mask, self._sources, self._memory = mask, sources, memory
        self._found: tuple[PaintedMask, PaintedPoints] | TomostreamError | None = None

    def shard(self, index: Triple) -> np.ndarray:
        """Return a shard as it was first painted: uint8 (z, y, x).

        Raises
        ------
        TomostreamError
            If the tomogram or the points are not here, or have changed; or if the points don't fit into the memory.
        """
        if self._found is None:
            try:
                self._found = self._find()
            except TomostreamError as error:
                self._found = error
        if isinstance(self._found, TomostreamError):
            raise self._found
        mask, points = self._found
        return mask.shard(index, points)

    def _find(self) -> tuple[PaintedMask, PaintedPoints]:
        from tomostream.stages.labels.repainting import PaintedMask

        mask = PaintedMask(self._mask)
        self._sources.tomogram(mask.tomogram)
        called = "" if mask.table is None else f" ({mask.table})"
        problem: str | None = None
        for table in dict.fromkeys(self._sources.tables(mask.table)):
            try:
                points = mask.points(table, memory=self._memory)
            except BudgetError:
                raise
            except TomostreamError as error:
                if problem is None and mask.is_own(table):
                    problem = f"{error}"
                continue
            if points is not None:
                return mask, points
            if mask.is_own(table):
                problem = f"{table} has other points than it was painted from"
        if problem is not None:
            raise InputError(
                f"its table of points was changed since: {problem}; give the table as it was, or run `tomostream labels` again with --overwrite"
            )
        raise InputError(f"the table of its points{called} was not found; put it beside the mask, or give its path too")
