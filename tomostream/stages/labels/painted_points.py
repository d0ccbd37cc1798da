"""Which points does a mask show, and from which table were they read?"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.registry import Conversion, read_table
from tomostream.geometry import Box
from tomostream.masks import points_touching
from tomostream.progress import Progress
from tomostream.remote.places import RemotePath, place
from tomostream.stages.shared.clicks import inside_volume, only_positives
from tomostream.store.naming import counterpart, is_text
from tomostream.store.records import PointsRecord
from tomostream.tomogram import Tomogram


@dataclass(frozen=True, slots=True)
class PaintedPoints:
    """The points that a mask shows.

    Parameters
    ----------
    position_zyx
        float64 (n, 3), voxels, inside the volume.
    values
        uint8 (n,), what is painted for each.
    species
        The names of the values 1, 2, ...
    """

    position_zyx: np.ndarray
    values: np.ndarray
    species: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def digest(self) -> str:
        """Hash of positions and values: a list of 10^5 clicks would bloat every ledger and store."""
        return hashlib.sha256(self.position_zyx.astype("<f8").tobytes() + self.values.tobytes()).hexdigest()

    def near(self, box: Box, radius: float) -> PaintedPoints:
        """Those whose labels (radius in voxels) may touch a box."""
        chosen = points_touching(box, self.position_zyx, radius=radius)
        return replace(self, position_zyx=self.position_zyx[chosen], values=self.values[chosen])


def read_painted_points(table: str, tomogram: Tomogram, *, conversion: Conversion, progress: Progress) -> PaintedPoints:
    """Read the points that the mask of a tomogram shows.

    Parameters
    ----------
    tomogram
        Its name, spacing and shape count; a mask of it, under its name, has the same.

    Raises
    ------
    InputError
        If the table has no point for this tomogram, over 255 species, or under 95 % of its points lie inside.
    """
    points = only_positives(read_table(table, conversion=conversion), table, progress).named(tomogram=tomogram.name, species="particle")
    here = points.renamed({name: counterpart(name, [tomogram.name]) for name in points.tomograms()}).of(tomogram=tomogram.name)
    if len(here) == 0:
        others = ", ".join(points.tomograms())
        raise InputError(
            f"table {table} has no point for tomogram '{tomogram.name}'" + (f"; it has points for {others}" if others else ": it is empty")
        )
    here = inside_volume(here, tomogram, table, progress)
    species = here.species_names()
    if len(species) > 255:
        raise InputError(f"table {table} has {len(species)} species; a mask holds at most 255")
    values = np.array([species.index(name) + 1 for name in here.species.tolist()], dtype=np.uint8)
    return PaintedPoints(here.position_zyx, values, tuple(species))


def record_of_table(table: str, conversion: Conversion) -> PointsRecord:
    """The record of a table; its name alone, because a project that is copied elsewhere stays the same."""
    where = place(table)
    name = where.name if isinstance(where, RemotePath) else os.path.basename(os.path.abspath(where))
    columns = None if conversion.columns is None else list(conversion.columns)
    return PointsRecord(table=name if name and is_text(name) else None, columns=columns, unit=conversion.unit)
