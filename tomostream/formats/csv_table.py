"""CSV tables of points and picks.

Convention: one row a particle; positions from the volume's corner, voxel i at i (or i * spacing angstrom); the unit is in the columns'
names.  Accepted headers, with `tomogram`, `species` and `score` optional:

- `x_angstrom,y_angstrom,z_angstrom` (ours, written)
- `x_voxel,y_voxel,z_voxel`
- `tomogram_name,x_coord,y_coord,z_coord` (voxels; the original software's)
- no header: the caller names the columns and the unit

Numbers are written as the shortest text that reads back exactly.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.registry import Conversion
from tomostream.particles import Particles, Unit
from tomostream.remote.atomic_files import write_atomically

HEADER = ("tomogram", "species", "x_angstrom", "y_angstrom", "z_angstrom", "score")
POSITIONS: dict[tuple[str, str, str], Unit] = {
    ("x_angstrom", "y_angstrom", "z_angstrom"): "angstrom",
    ("x_voxel", "y_voxel", "z_voxel"): "voxel",
    ("x_coord", "y_coord", "z_coord"): "voxel",
}
_NAMES = {"tomogram": "tomogram", "tomogram_name": "tomogram", "species": "species", "score": "score"}


def read(path: Path, conversion: Conversion) -> Particles:
    """Read a table of points: comma, semicolon, tab or blanks between the fields.

    A table without header needs `conversion.columns`, its columns in order, of `x`, `y`, `z`, `tomogram`, `species`, `score` (`-` skips
    one), and `conversion.unit`.

    Raises
    ------
    InputError
        If the file, its header or a value (with its line) is wrong.
    """
    columns, unit = conversion.columns, conversion.unit
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"table {path} can't be read as text: {error}") from None
    rows = [(number, fields) for number, fields in _rows(text) if fields and not fields[0].startswith("#")]
    if columns is not None:
        if unit is None:
            raise InputError(f"table {path}: --columns needs --unit vox or A")
        if not {"x", "y", "z"} <= set(columns):
            raise InputError(f"table {path}: --columns must name x, y and z, found {','.join(columns)}")
        names = list(columns)
        xyz = ("x", "y", "z")
    else:
        if not rows:
            raise InputError(f"table {path} is empty; it needs a header such as {','.join(HEADER)}")
        names = [field.strip().lower() for field in rows[0][1]]
        xyz, unit = _positions(path, rows[0][1], names)
        rows = rows[1:]
    return _particles(path, rows, names, xyz, unit)


def _positions(path: Path, header: list[str], names: list[str]) -> tuple[tuple[str, str, str], Unit]:
    for xyz, found in POSITIONS.items():
        if set(xyz) <= set(names):
            return xyz, found
    if all(_is_number(field) for field in header[:3]):
        raise InputError(
            f"table {path} has no header (its first line is {','.join(header)}); say what its columns are, as --columns x,y,z --unit vox"
        )
    allowed = " or ".join(",".join(xyz) for xyz in POSITIONS)
    if "axis-0" in names:
        raise InputError(f"table {path} is a points layer of napari's (axis-0,axis-1,axis-2); name it with --format napari")
    raise InputError(f"table {path}: its columns are {','.join(header)}; the positions must be named {allowed} (never guessed)")


def _particles(path: Path, rows: list[tuple[int, list[str]]], names: list[str], xyz: tuple[str, str, str], unit: Unit) -> Particles:
    at = {_NAMES.get(name, name): i for i, name in enumerate(names)}
    positions = np.empty((len(rows), 3))
    scores = np.full(len(rows), np.nan)
    texts: dict[str, list[str]] = {"tomogram": [], "species": []}
    for i, (number, fields) in enumerate(rows):
        if len(fields) < len(names):
            raise InputError(f"table {path}, line {number}: {len(fields)} fields, expected {len(names)} ({','.join(names)})")
        if any(field.strip() for field in fields[len(names) :]):
            raise InputError(
                f"table {path}, line {number}: {len(fields)} fields, expected {len(names)} ({','.join(names)}); are there decimal commas?"
            )
        for axis, name in zip((2, 1, 0), xyz, strict=True):
            positions[i, axis] = _number(path, number, name, fields[at[name]])
        if not np.isfinite(positions[i]).all():
            raise InputError(f"table {path}, line {number}: the position must be finite, found {','.join(fields)}")
        if "score" in at and fields[at["score"]].strip():
            scores[i] = _number(path, number, "score", fields[at["score"]])
        for name, values in texts.items():
            values.append(fields[at[name]].strip() if name in at else "")
    return Particles.build(positions, unit=unit, tomogram=texts["tomogram"], species=texts["species"], score=scores)


def _rows(text: str) -> list[tuple[int, list[str]]]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = next((d for d in (",", ";", "\t") if d in first), None)
    if delimiter is None:
        return [(n, line.split()) for n, line in enumerate(text.splitlines(), 1)]
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    return [(reader.line_num, [field.strip() for field in fields]) for fields in reader if any(field.strip() for field in fields)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"table {path}, line {line}: {name} must be a number, found '{text}'") from None


def csv_text(particles: Particles, *, unit: Unit = "angstrom") -> str:
    """Return particles as the text of our CSV table, in the order given; picks are in angstrom.

    Raises
    ------
    InputError
        If the positions are not in this unit.
    """
    if particles.unit != unit:
        raise InputError(f"a picks table holds {unit}; convert the particles with their voxel spacing first")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.replace("angstrom", unit) for column in HEADER)
    rows = zip(particles.tomogram, particles.species, particles.position_zyx.tolist(), particles.score.tolist(), strict=True)
    for tomogram, species, (z, y, x), score in rows:
        writer.writerow([tomogram, species, repr(x), repr(y), repr(z), "" if math.isnan(score) else repr(score)])
    return text.getvalue()


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the table in angstrom.

    Raises
    ------
    InputError
        If the voxel spacing is needed and not given.
    """
    text = csv_text(conversion.to_unit(particles, "angstrom", "a picks table in angstrom"))
    write_atomically(path, text)
