"""What do the columns of a table with names (CSV, Parquet, a data frame) mean?  One rule for all.

Positions: `x_angstrom,y_angstrom,z_angstrom`, `x_voxel,y_voxel,z_voxel`, or `x_coord,y_coord,z_coord` (voxels; the original software's); the
unit is in the names and never guessed.  Besides, each may be there or not: `tomogram` (or `tomogram_name`), `species`, `score`, `label`.
Capitals don't matter.  Other columns are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tomostream.errors import InputError
from tomostream.particles import Unit

POSITIONS: dict[tuple[str, str, str], Unit] = {
    ("x_angstrom", "y_angstrom", "z_angstrom"): "angstrom",
    ("x_voxel", "y_voxel", "z_voxel"): "voxel",
    ("x_coord", "y_coord", "z_coord"): "voxel",
}
_ROLES = {"tomogram": ("tomogram", "tomogram_name"), "species": ("species",), "score": ("score",), "label": ("label",)}


class Columns(NamedTuple):
    """Where the columns stand, counted from 0; None where there is none."""

    x: int
    y: int
    z: int
    unit: Unit
    tomogram: int | None
    species: int | None
    score: int | None
    label: int | None


def refuse_twice(names: Sequence[str], where: str) -> None:
    """Refuse a table that has two columns of one name.

    Raises
    ------
    InputError
        Which.
    """
    if twice := [name for name, count in Counter(names).items() if count > 1 and name]:
        raise InputError(f"{where} has the column {', '.join(map(repr, twice))} twice; remove one of them")


def columns_of(header: Sequence[str], where: str) -> Columns | None:
    """Find the columns by their names; None where no positions are named.

    Raises
    ------
    InputError
        If a name is there twice, or positions or tomograms in two ways.
    """
    names = [name.strip().lower() for name in header]
    refuse_twice(names, where)
    found = [xyz for xyz in POSITIONS if set(xyz) <= set(names)]
    if len(found) > 1:
        raise InputError(
            f"{where} has positions twice, {','.join(found[0])} and {','.join(found[1])}; remove those columns that don't count"
        )
    if not found:
        return None
    at: dict[str, int | None] = {}
    for role, known in _ROLES.items():
        here = [name for name in known if name in names]
        if len(here) > 1:
            raise InputError(f"{where} has the columns {' and '.join(here)}, which both name the {role}; remove one of them")
        at[role] = names.index(here[0]) if here else None
    x, y, z = (names.index(name) for name in found[0])
    return Columns(x, y, z, POSITIONS[found[0]], **at)


def labels(values: Sequence[object], where: str) -> np.ndarray:
    """Read labels: 1 (also where nothing stands) a particle, 0 a place that is none.

    Raises
    ------
    InputError
        If one is neither.
    """
    result = np.ones(len(values), np.int8)
    for i, value in enumerate(values):
        text = "" if value is None else str(value).strip()
        if text in ("", "nan", "<NA>", "None"):
            continue
        if text not in ("0", "1", "0.0", "1.0"):
            raise InputError(f"{where}, particle {i + 1}: label must be 1 (a particle) or 0 (a place that is none), found '{text}'")
        result[i] = text[0] == "1"
    return result
