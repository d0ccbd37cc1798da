"""`.coords` tables: voxels, x y z, no header; one tomogram per file, an optional class number in the first column.

Convention: DeepETPicker separates by tabs, TomoTwin by blanks; the tomogram is the file's stem unless it is named.  With several species
the class column is written, numbered from 1 in order of the species' first appearance in the whole export (all its files count alike, and
a message gives their meaning); one species needs no numbers.  Lines that begin with `#` are comments.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.conversion import Conversion, file_tomogram
from tomostream.formats.table_format import TableFormat
from tomostream.formats.text_files import read_lines, shown
from tomostream.particle_columns import number
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
    for line_number, line in enumerate(read_lines(path), 1):
        fields = line.replace(",", " ").split()
        if not fields or fields[0].startswith("#"):
            continue
        try:
            rows.append([number(field) for field in fields])
        except ValueError:
            raise InputError(f"{path}, line {line_number}: expected numbers 'x y z' or 'class x y z', found '{shown(line)}'") from None
        if len(fields) not in (3, 4) or len(fields) != len(rows[0]) or not np.isfinite(rows[-1]).all():
            raise InputError(f"{path}, line {line_number}: expected 3 or 4 finite numbers, as in the first line, found '{shown(line)}'")
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
    found = conversion.written_in(particles, "voxel", "coords (voxels)")
    classes = {kind: i for i, kind in enumerate(conversion.classes or found.species_names(), 1)}
    lines = []
    for (z, y, x), kind in zip(found.position_zyx.tolist(), found.species, strict=True):
        numbers = [f"{classes[kind]}"] if len(classes) > 1 else []
        lines.append("\t".join([*numbers, repr(x), repr(y), repr(z)]) + "\n")
    write_atomically(path, "".join(lines))


FORMAT = TableFormat(read=read, write=write, ending=".coords", known_by=(".coords",), one_tomogram=True, numbers_species=True)
