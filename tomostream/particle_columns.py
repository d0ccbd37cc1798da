"""What do the columns of a table with names (CSV, Parquet, a data frame) mean?  One rule for all.

Positions: `x_angstrom,y_angstrom,z_angstrom`, `x_voxel,y_voxel,z_voxel`, or `x_coord,y_coord,z_coord` (voxels; the original software's); the
unit is in the names and never guessed.  Besides, each may be there or not: `tomogram` (or `tomogram_name`), `species`, `score`, `label`, and
`rot_degree,tilt_degree,psi_degree` (all three; RELION's angles).
Capitals don't matter.  Other columns are passed over.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from tomostream.errors import InputError
from tomostream.orientations import matrices

if TYPE_CHECKING:
    import pandas as pd

Unit = Literal["voxel", "angstrom"]
POSITIONS: dict[tuple[str, str, str], Unit] = {
    ("x_angstrom", "y_angstrom", "z_angstrom"): "angstrom",
    ("x_voxel", "y_voxel", "z_voxel"): "voxel",
    ("x_coord", "y_coord", "z_coord"): "voxel",
}
ANGLES = ("rot_degree", "tilt_degree", "psi_degree")
_SHOWN = 50  # characters of a text that is no number
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
    angles: tuple[int, int, int] | None = None


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
    turned = [name for name in ANGLES if name in names]
    if turned and len(turned) < len(ANGLES):
        raise InputError(f"{where} has {', '.join(turned)}; orientations need all of {', '.join(ANGLES)}")
    rot, tilt, psi = (names.index(name) if turned else -1 for name in ANGLES)
    return Columns(x, y, z, POSITIONS[found[0]], **at, angles=(rot, tilt, psi) if turned else None)


def labels(values: Sequence[object], where: str, first: int = 1) -> np.ndarray:
    """Read labels: 1 (also where nothing stands) a particle, 0 a place that is none; `first` is the number of the first row.

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
            raise InputError(f"{where}, particle {i + first}: label must be 1 (a particle) or 0 (a place that is none), found '{text}'")
        result[i] = text[0] == "1"
    return result


def number(text: str) -> float:
    """Return the number that a text says.

    Raises
    ------
    ValueError
        If it says none, or only as Python's source may (`1_000`), or in digits of other scripts.
    """
    try:
        if "_" in text or not text.isascii():
            raise ValueError
        return float(text)
    except ValueError:
        raise ValueError(f"'{text[:_SHOWN]}{'...' if len(text) > _SHOWN else ''}' is no number") from None


def of_frame(table: pd.DataFrame, where: str) -> dict[str, Any]:
    """Read a data frame with the columns of our CSV: positions (n, 3) z y x, their unit, tomogram, species, score, label, rotation.

    Raises
    ------
    InputError
        If the positions' columns are not known, or a value is no number or no name.
    """
    if not hasattr(table, "columns"):
        raise InputError(
            f"{where} must be a pandas DataFrame, found {type(table).__name__}; pandas.DataFrame(...) makes one of a dict or a list"
        )
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    header = [str(name) for name in table.columns]
    at = columns_of(header, where)
    if at is None:
        allowed = " or ".join(",".join(xyz) for xyz in POSITIONS)
        raise InputError(f"{where}: its columns are {','.join(header)}; the positions must be named {allowed}")
    return {
        "position_zyx": np.stack([_numbers(table.iloc[:, column], header[column], where) for column in (at.z, at.y, at.x)], axis=1),
        "unit": at.unit,
        "tomogram": "" if at.tomogram is None else _names(table.iloc[:, at.tomogram], "tomogram", where),
        "species": "" if at.species is None else _names(table.iloc[:, at.species], "species", where),
        "score": np.nan if at.score is None else _numbers(table.iloc[:, at.score], "score", where),
        "label": 1 if at.label is None else labels(table.iloc[:, at.label].astype(object).tolist(), where),
        "rotation": None
        if at.angles is None
        else matrices(np.stack([_numbers(table.iloc[:, column], header[column], where) for column in at.angles], axis=1), "relion"),
    }


def _numbers(values: pd.Series[Any], name: str, where: str) -> np.ndarray:
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iuf":
        return values.to_numpy(np.float64)
    result = np.empty(len(values))
    for i, value in enumerate(values.astype(object).tolist()):
        try:
            result[i] = _number(value)
        except (ValueError, TypeError):
            raise InputError(f"{where}, particle {i + 1}: {name} must be a number, found {value!r:.80}") from None
    return result


def _number(value: Any) -> float:
    if _is_missing(value):
        return math.nan
    if isinstance(value, str):
        return number(value) if value.strip() else math.nan
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | Decimal | np.number):
        raise TypeError("no number")
    return float(value)  # a complex one raises


def _names(values: pd.Series[Any], what: str, where: str) -> list[str]:
    names = []
    for i, value in enumerate(values.astype(object).tolist()):
        if _is_missing(value):
            names.append("")
        elif isinstance(value, str):
            names.append(value)
        elif isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
            raise InputError(f"{where}, particle {i + 1}: {what} must be a name, found {value!r:.80}")
        else:
            names.append(str(int(value)) if float(value).is_integer() else str(value))
    return names


def _is_missing(value: Any) -> bool:
    """None, NaN, and pandas' own."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value))
