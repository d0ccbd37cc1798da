"""Picks of a plain array, as a sequence of records: what `ts.pick(array, ...)` returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np


class PickRecord(NamedTuple):
    """One pick of an array: integer voxel z, y, x, and the score there."""

    z: int
    y: int
    x: int
    score: float


class PickRecords(Sequence[PickRecord]):
    """Picks of an array, best first; also as arrays: `index_zyx` int64 (n, 3) and `score` float64 (n,)."""

    def __init__(self, index_zyx: np.ndarray, score: np.ndarray) -> None:
        self.index_zyx = index_zyx
        self.score = score

    def __len__(self) -> int:
        return len(self.score)

    @overload
    def __getitem__(self, item: int) -> PickRecord: ...

    @overload
    def __getitem__(self, item: slice) -> PickRecords: ...

    def __getitem__(self, item: int | slice) -> PickRecord | PickRecords:
        if isinstance(item, slice):
            return PickRecords(self.index_zyx[item], self.score[item])
        z, y, x = self.index_zyx[item].tolist()
        return PickRecord(z, y, x, float(self.score[item]))

    def __iter__(self) -> Iterator[PickRecord]:
        for (z, y, x), score in zip(self.index_zyx.tolist(), self.score.tolist(), strict=True):
            yield PickRecord(z, y, x, score)

    def __repr__(self) -> str:
        return f"<{len(self)} picks>"
