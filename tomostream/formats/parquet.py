"""Parquet: the same columns as our CSV table, the unit in their names; for tables of millions of picks.  Data frames likewise."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tomostream.errors import InputError
from tomostream.formats.columns import POSITIONS, columns_of, labels
from tomostream.formats.registry import Conversion
from tomostream.formats.text_files import number
from tomostream.particles import Particles


def read(path: Path, conversion: Conversion) -> Particles:
    """Read a table with the columns of our CSV.

    Raises
    ------
    InputError
        If it is no Parquet file, or its positions' columns are not known.
    """
    del conversion  # the columns' names say the unit
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises a family of its own
        raise InputError(f"{path} is no Parquet table: {error}") from None
    return particles_of(table, str(path))


def particles_of(table: pd.DataFrame, where: str) -> Particles:
    """Read a data frame with the columns of our CSV.

    Raises
    ------
    InputError
        If the positions' columns are not known, or a value is no number or no name.
    """
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    header = [str(name) for name in table.columns]
    at = columns_of(header, where)
    if at is None:
        allowed = " or ".join(",".join(xyz) for xyz in POSITIONS)
        raise InputError(f"{where}: its columns are {','.join(header)}; the positions must be named {allowed}")
    position_zyx = np.stack([_numbers(table.iloc[:, column], header[column], where) for column in (at.z, at.y, at.x)], axis=1)
    return Particles.build(
        position_zyx,
        unit=at.unit,
        tomogram="" if at.tomogram is None else _names(table.iloc[:, at.tomogram], "tomogram", where),
        species="" if at.species is None else _names(table.iloc[:, at.species], "species", where),
        score=np.nan if at.score is None else _numbers(table.iloc[:, at.score], "score", where),
        label=1 if at.label is None else labels(table.iloc[:, at.label].astype(object).tolist(), where),
    )


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
    if value is None or value is pd.NA:
        return math.nan
    if isinstance(value, str):
        return number(value) if value.strip() else math.nan
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | Decimal | np.number):
        raise TypeError("no number")
    return float(value)  # a complex one raises


def _names(values: pd.Series[Any], what: str, where: str) -> list[str]:
    names = []
    for i, value in enumerate(values.astype(object).tolist()):
        if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
            names.append("")
        elif isinstance(value, str):
            names.append(value)
        elif isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
            raise InputError(f"{where}, particle {i + 1}: {what} must be a name, found {value!r:.80}")
        else:
            names.append(str(int(value)) if float(value).is_integer() else str(value))
    return names


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the table in angstrom."""
    found = conversion.written_in(particles, "angstrom", "a picks table in angstrom")
    temporary = path.with_name(f".{path.name}.tmp")
    found.to_dataframe().to_parquet(temporary, index=False)
    temporary.replace(path)
