"""Parquet: the same columns as our CSV table, the unit in their names; for tables of millions of picks."""

from __future__ import annotations

from pathlib import Path

from tomostream.errors import InputError
from tomostream.formats.conversion import Conversion
from tomostream.formats.table_format import TableFormat
from tomostream.particle_columns import refuse_twice
from tomostream.particles import Particles
from tomostream.remote.atomic_files import replacing


def read(path: Path, conversion: Conversion) -> Particles:
    """Read a table with the columns of our CSV.

    Raises
    ------
    InputError
        If it is no Parquet file, or its positions' columns are not known.
    """
    del conversion  # the columns' names say the unit
    import pandas as pd  # noqa: PLC0415  (slow to import, and finding a format by its ending needs neither)
    from pyarrow.parquet import read_schema  # noqa: PLC0415  (as above)

    try:
        with open(path, "rb") as file:  # not Arrow's own `open`, which waits for ever at a named pipe
            refuse_twice(read_schema(file).names, str(path))
        table = pd.read_parquet(path)
    except InputError:
        raise
    except Exception as error:  # pyarrow raises a family of its own
        raise InputError(f"{path} is not a Parquet table: {error}") from None
    return Particles.from_dataframe(table, where=str(path))


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the table in angstrom."""
    found = conversion.written_in(particles, "angstrom", "a picks table in angstrom")
    with replacing(path) as temporary:
        found.to_dataframe().to_parquet(temporary, index=False)


FORMAT = TableFormat(read=read, write=write, ending=".parquet", known_by=(".parquet",), labelled=True)
