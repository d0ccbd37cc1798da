"""Read scores that are stored at the network's level: interpolated to the tomogram's grid on reading, with the bits of a map that was written there.

1. For each block that the box touches (`coarse_grid`), read the logits of the voxels between which it lies: those that the block owns from the
   store's only level, its seams from the row beside the shard.
2. Interpolate them (`upsample`), then apply the sigmoid in float32: what `predict` does before it writes, where it writes the tomogram's grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float32

from tomostream.coarse_grid import CoarseGrid
from tomostream.errors import InputError
from tomostream.geometry import Box, Triple, triple
from tomostream.remote.places import place
from tomostream.store.pyramid import LevelLayout, seam_layout
from tomostream.store.records import SEAMS, GridRecord
from tomostream.store.shard_reading import read_sharded
from tomostream.store.stored_levels import StoredLevel
from tomostream.upsample import supporting_box, upsample

_SIGMOID_VOXELS = 2**20


@dataclass(frozen=True)  # no slots: the arrays are cached on the instance
class CoarseScores:
    """The stored scores; made by `coarse_scores`.

    Parameters
    ----------
    path
        Of the store.
    stored
        Its level.
    grid
        The blocks.
    chunk
        Level-0 edges that are read well.
    box
        Where there are scores, level-0 voxels; None: everywhere.
    as_logits
        Whether what is read are logits, too.
    """

    path: str
    stored: StoredLevel
    grid: CoarseGrid
    chunk: Triple
    box: Box | None
    as_logits: bool

    @property
    def virtual(self) -> StoredLevel:
        """Level 0, as if it were stored."""
        return StoredLevel(self.stored.path, LevelLayout(self.grid.volume, self.chunk, self.grid.shard), self.stored.dtype, None)

    @cached_property
    def arrays(self) -> tuple[StoredLevel, ...]:
        """What is stored: the level and, unless there is only one block, the seams."""
        values = self.grid.seam_values
        if not values:
            return (self.stored,)
        layout = seam_layout(self.grid.shards.counts, values)
        return self.stored, StoredLevel(SEAMS, layout, self.stored.dtype, self.stored.codec)

    def read(self, box: Box) -> Float32[np.ndarray, "z y x"]:
        """Read the scores of a box of level 0; outside `self.box` they are NaN.

        Raises
        ------
        InputError
            If the store is damaged.
        """
        inside = box if self.box is None else box.clipped(self.box)
        if inside != box:
            result = np.full(box.shape, np.nan, dtype=np.float32)
            if not inside.is_empty:
                result[inside.relative_to(box.start).slices] = self.read(inside)
            return result
        result = np.empty(box.shape, dtype=np.float32)
        for index in self.grid.shards.touching(box):
            self._read_shard(index, box, result)
        if not self.as_logits:
            sigmoid(result)
        return result

    def _read_shard(self, index: Triple, box: Box, result: np.ndarray) -> None:
        row: np.ndarray | None = None
        for block in self.grid.blocks(index):
            part = block.core.clipped(box)
            if part.is_empty:
                continue
            wanted = supporting_box(part, self.grid.level, self.grid.level_shape)
            values = np.empty((1, *wanted.shape), dtype=np.float32)
            own = wanted.clipped(block.owned)
            if not own.is_empty:
                self._read(0, own, values[(0, *own.relative_to(wanted.start).slices)])
            for slab, first in block.seams:
                common = slab.clipped(wanted)
                if common.is_empty:
                    continue
                if row is None:
                    row = self._row(index)
                known = row[first : first + slab.size].reshape(slab.shape)
                values[(0, *common.relative_to(wanted.start).slices)] = known[common.relative_to(slab.start).slices]
            out = result[(None, *part.relative_to(box.start).slices)]
            upsample(values, wanted.start, part, self.grid.level, self.grid.level_shape, out)

    def _row(self, index: Triple) -> np.ndarray:
        values = self.arrays[1].layout.chunk[2]
        row: np.ndarray = np.empty((1, 1, values), dtype=np.float32)
        self._read(1, Box((index[0], index[1], index[2] * values), (index[0] + 1, index[1] + 1, (index[2] + 1) * values)), row)
        return row.reshape(-1)

    def _read(self, number: int, box: Box, out: np.ndarray) -> None:
        one = self.arrays[number]
        if one.codec is None:
            raise TypeError(f"{self.path}/{one.path} does not use tomostream's codecs")
        read_sharded(place(self.path) / one.path, one.layout, one.dtype, one.codec, box, out=out)


def coarse_scores(path: str, levels: tuple[StoredLevel, ...], attributes: Mapping[str, Any]) -> CoarseScores | None:
    """Return the scores of a store that keeps them at the network's level; None for other stores.

    Parameters
    ----------
    path
        Of the store.
    levels
        Its stored levels.
    attributes
        Its attribute `tomostream`, checked.

    Raises
    ------
    InputError
        If the attributes don't fit the stored level.
    """
    if attributes.get("grid") is None:
        return None
    record = GridRecord.model_validate(attributes["grid"])
    grid = CoarseGrid(triple(record.volume), record.level, triple(record.shard), triple(record.core))
    box = None if record.box is None else Box(triple(record.box[0]), triple(record.box[1]))
    stored = levels[0]
    is_uneven = any(s % 2**grid.level and s < n for s, n in zip(grid.shard, grid.volume, strict=True))
    is_outside = box is not None and not Box.whole(grid.volume).contains(box)
    if stored.shape != grid.level_shape or stored.dtype != np.float32 or stored.codec is None or is_uneven or is_outside:
        raise InputError(
            f"{path}: its attribute 'grid' does not fit its level of {stored.shape} voxels of type {stored.dtype}; predict it again with --overwrite"
        )
    if stored.layout.shards.counts != grid.shards.counts:
        raise InputError(
            f"{path}: its attribute 'grid' does not fit its {stored.layout.shards.counts} shards; predict it again with --overwrite"
        )
    return CoarseScores(path, stored, grid, triple(record.chunk), box, attributes.get("logits") is True)


def sigmoid(logits: np.ndarray) -> None:
    """Turn logits (z, y, x) into probabilities in place, piece by piece."""
    from scipy.special import expit  # noqa: PLC0415  (where a store is merely opened it is not needed, and takes longer than that)

    planes = max(1, _SIGMOID_VOXELS // max(1, logits[0].size)) if len(logits) else 1
    for first in range(0, len(logits), planes):
        part = logits[first : first + planes]
        expit(part, out=part)
