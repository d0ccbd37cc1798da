"""How is a mask's shard painted again, with the same bytes?  From any table that has just the points it was made from, which their hash shows."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict

from tomostream.fingerprint import Fingerprint
from tomostream.formats.registry import Conversion
from tomostream.geometry import Triple
from tomostream.masks import mask_of_box
from tomostream.progress import Progress
from tomostream.stages.labels.painted_points import PaintedPoints, read_painted_points
from tomostream.stages.labels.stage import check_label_memory
from tomostream.store.records import PointsRecord
from tomostream.store.typed_json import check_json
from tomostream.tomogram import Tomogram


class MaskFingerprint(BaseModel):
    """What made a mask, as far as painting it again needs it."""

    model_config = ConfigDict(extra="allow", strict=True)

    tomogram: Fingerprint
    radius: float  # voxels
    shape: str
    points: str  # `PaintedPoints.digest`
    species: list[str]


class PaintedMask:
    """A finished mask that is painted again, from a table that has just the points it was made from.

    Parameters
    ----------
    mask
        The store, which `write_labels` made.

    Raises
    ------
    InputError
        If its record is damaged.
    """

    def __init__(self, mask: Tomogram) -> None:
        self._mask = mask
        self._made: MaskFingerprint = check_json(mask.attributes.get("fingerprint"), MaskFingerprint, f"the fingerprint of {mask.path}")
        record = check_json(mask.attributes.get("points_table") or {}, PointsRecord, f"attribute 'tomostream' of {mask.path}")
        self.table: str | None = record.table
        self.tomogram: Fingerprint = self._made.tomogram
        self._conversion = Conversion(columns=record.columns, unit=record.unit)

    def is_own(self, table: str) -> bool:
        """Whether a table that exists has the name of the mask's own."""
        return self.table is not None and os.path.basename(table) == self.table and os.path.exists(table)

    def points(self, table: str, *, memory: int) -> PaintedPoints | None:
        """Read a table; None if its points are not those of the mask.

        Raises
        ------
        TomostreamError
            If it can't be read, or its points don't fit into `memory`, the budget of the process in bytes.
        """
        named = replace(self._mask, name=str(self._made.tomogram.get("name")))
        found = read_painted_points(table, named, conversion=self._conversion, progress=Progress())
        check_label_memory(named.name, named.levels[0].layout, points=len(found), memory=memory, threads=1, is_remote=False)
        return found if found.digest == self._made.points and list(found.species) == self._made.species else None

    def shard(self, index: Triple, points: PaintedPoints) -> np.ndarray:
        """Paint one shard: uint8 (z, y, x).

        Raises
        ------
        InputError
            If the recorded radius or shape can't be painted.
        """
        box, made = self._mask.levels[0].layout.shards.core(index), self._made
        near = points.near(box, made.radius)
        return mask_of_box(box, near.position_zyx, radius=made.radius, shape=made.shape, volume=self._mask.shape, values=near.values)
