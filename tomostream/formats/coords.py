"""`.coords` tables: voxels, x y z, no header; one tomogram a file, an optional class number in the first column.

Convention: DeepETPicker separates by tabs, TomoTwin by blanks; the tomogram is the file's stem unless it is named.  With several species
the class column is written, numbered from 1 in order of the species' first appearance; one species needs none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.registry import Conversion, file_tomogram
from tomostream.particles import Particles
from tomostream.remote.atomic_files import write_atomically


def read(path: Path, conversion: Conversion) -> Particles:
    """Read x y z, or class x y z.

    Raises
    ------
    InputError
        If a line has other than 3 or 4 numbers.
    """
    rows: list[list[float]] = []
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as text: {error}") from None
    for number, line in enumerate(lines, 1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        try:
            rows.append([float(field) for field in fields])
        except ValueError:
            raise InputError(f"{path}, line {number}: expected numbers 'x y z' or 'class x y z', found '{line.strip()}'") from None
        if len(fields) not in (3, 4) or len(fields) != len(rows[0]) or not np.isfinite(rows[-1]).all():
            raise InputError(f"{path}, line {number}: expected 3 or 4 finite numbers, as in the first line, found '{line.strip()}'")
    table = np.array(rows, dtype=np.float64).reshape(-1, len(rows[0]) if rows else 3)
    has_class = table.shape[1] == 4
    return Particles.build(
        table[:, -3:][:, ::-1],
        unit="voxel",
        tomogram=file_tomogram(path, conversion),
        species=[f"class{value:g}" for value in table[:, 0]] if has_class else "",
    )


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write tab-separated voxels.

    Raises
    ------
    InputError
        If the voxel spacing is needed and not given.
    """
    found = conversion.to_unit(particles, "voxel", "coords (voxels)")
    species = found.species_names()
    lines = []
    for (z, y, x), kind in zip(found.position_zyx.tolist(), found.species, strict=True):
        numbers = [f"{species.index(kind) + 1}"] if len(species) > 1 else []
        lines.append("\t".join([*numbers, repr(x), repr(y), repr(z)]) + "\n")
    write_atomically(path, "".join(lines))
