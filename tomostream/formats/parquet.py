"""Parquet: the same columns as our CSV table, the unit in their names; for tables of millions of picks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tomostream.errors import InputError
from tomostream.formats.conversion import Conversion
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
    return Particles.from_dataframe(table, where=str(path))


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the table in angstrom."""
    found = conversion.written_in(particles, "angstrom", "a picks table in angstrom")
    temporary = path.with_name(f".{path.name}.tmp")
    found.to_dataframe().to_parquet(temporary, index=False)
    temporary.replace(path)
