"""Parquet: the same columns as our CSV table, the unit in their names; for tables of millions of picks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tomostream.errors import InputError
from tomostream.formats.csv_table import POSITIONS
from tomostream.formats.registry import Conversion
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
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow raises a family of its own
        raise InputError(f"{path} is no Parquet table: {error}") from None
    for (x, y, z), unit in POSITIONS.items():
        if {x, y, z} <= set(table.columns):
            return Particles.build(
                table[[z, y, x]].to_numpy(np.float64),
                unit=unit,
                tomogram=table["tomogram"].astype(str).to_numpy() if "tomogram" in table else "",
                species=table["species"].astype(str).to_numpy() if "species" in table else "",
                score=table["score"].to_numpy(np.float64) if "score" in table else np.nan,
            )
    allowed = " or ".join(",".join(xyz) for xyz in POSITIONS)
    raise InputError(f"{path}: its columns are {','.join(map(str, table.columns))}; the positions must be named {allowed}")


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the table in angstrom."""
    found = conversion.to_unit(particles, "angstrom", "a picks table in angstrom")
    z, y, x = found.position_zyx.T
    columns = {
        "tomogram": found.tomogram,
        "species": found.species,
        "x_angstrom": x,
        "y_angstrom": y,
        "z_angstrom": z,
        "score": found.score,
    }
    with replacing(path) as temporary:
        pd.DataFrame(columns).astype({"tomogram": "str", "species": "str"}).to_parquet(temporary, index=False)
