"""CSV tables of points and picks.

Convention: one row per particle; positions from the volume's corner, voxel i at i (or i * spacing angstrom); the unit is in the columns'
names (see `columns`).  A table without header is read if the caller names its columns and unit.

Lines that begin with `#` are comments, blank lines count for nothing, and a first line `sep=;` is Excel's.  A name that begins with `#` is
quoted on writing; a comment that could be a row gives a warning.  Numbers are written as the shortest text that reads back exactly.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.conversion import Conversion
from tomostream.formats.table_format import TableFormat
from tomostream.formats.text_files import shown, stream_lines
from tomostream.orientations import angles, matrices
from tomostream.particle_columns import ANGLES, POSITIONS, Columns, columns_of, labels, number
from tomostream.particles import Particles, Unit
from tomostream.remote.atomic_files import write_atomically

HEADER = ("tomogram", "species", "x_angstrom", "y_angstrom", "z_angstrom", "score")
LABEL = "label"  # the column that follows where places that are no particles are among the rows
_DELIMITERS = (",", ";", "\t")
_NAMEABLE = ("x", "y", "z", "tomogram", "species", "score", "label", "-")  # what --columns may say
Row = tuple[int, list[str]]  # line, fields
_BATCH_ROWS, _MOST_COMMENTS = 2**15, 10_000


def read(path: Path, conversion: Conversion) -> Particles:
    """Read a table of points: comma, semicolon, tab or blanks between the fields.

    A table without header needs `conversion.columns`, its columns in order, of `x`, `y`, `z`, `tomogram`, `species`, `score`, `label` (`-`
    skips one), and `conversion.unit`.

    Raises
    ------
    InputError
        If the file, its header or a value (with its line) is wrong.
    """
    where = f"table {path}"
    records = _Records(stream_lines(path))
    rows = _rows(records, where)
    if conversion.columns is not None:
        at, names = _named(conversion.columns, conversion.unit, where), list(conversion.columns)
    else:
        header = next(rows, None)
        if header is None:
            raise InputError(f"{where} is empty; it needs a header such as {','.join(HEADER)}")
        names = [field.lower() for field in header[1]]
        at = _positions(header[1], where)
        if conversion.unit not in (None, at.unit):
            raise InputError(
                f"{where} has positions in {at.unit}s, but --unit says {conversion.unit}s; leave --unit out, or correct the header"
            )
    parts, known, first = [], dict[str, str](), 1
    while batch := list(itertools.islice(rows, _BATCH_ROWS)):  # rows as text take ten times the memory of rows as numbers
        parts.append(_particles(batch, _Reading(names, at, where, known, first)))
        first += len(batch)
    _tell_comments(records.comments, at, len(names), where, conversion)
    return Particles.concatenate(parts or [_particles([], _Reading(names, at, where, known, first))])


def row_lines(path: str | Path) -> list[int] | None:
    """The line that each row of a table with a header stands in; None where a file is no such table."""
    if Path(path).suffix.lower() not in FORMAT.known_by or not Path(path).is_file():
        return None
    return [line for line, _ in itertools.islice(_rows(_Records(stream_lines(Path(path))), f"table {path}"), 1, None)]


def _named(columns: Sequence[str], unit: Unit | None, where: str) -> Columns:
    names = [name.strip().lower() for name in columns]
    if unit is None:
        raise InputError(f"{where}: --columns needs --unit vox or A")
    if not {"x", "y", "z"} <= set(names):
        raise InputError(f"{where}: --columns must name x, y and z, found {','.join(columns)}")
    if unknown := [name for name in names if name not in _NAMEABLE]:
        raise InputError(f"{where}: --columns may name {', '.join(_NAMEABLE)} (skips one), found '{unknown[0]}'")
    twice = [f"{name}_{unit}" if name in ("x", "y", "z") else ("" if name == "-" else name) for name in names]
    found = columns_of(twice, where)
    if found is None:
        raise InputError(f"{where}: --columns must name x, y and z, found {','.join(columns)}")
    return found


def _positions(header: list[str], where: str) -> Columns:
    found = columns_of(header, where)
    if found is not None:
        return found
    if all(_is_number(field) for field in header[:3]):
        raise InputError(
            f"{where} has no header (its first line is {shown(','.join(header))}); name its columns, as --columns x,y,z --unit vox"
        )
    if "axis-0" in header:
        raise InputError(f"{where} is a points layer of napari (axis-0,axis-1,axis-2); give --format napari")
    allowed = " or ".join(",".join(xyz) for xyz in POSITIONS)
    raise InputError(f"{where}: its columns are {shown(','.join(header))}; the positions must be named {allowed} (never guessed)")


class _Reading(NamedTuple):
    """What is known of a table while it is read."""

    names: list[str]  # of the columns
    at: Columns
    where: str
    known: dict[str, str]  # tomograms and species: each is one object, however many rows have it
    first: int  # the number of a batch's first row

    def texts(self, rows: list[Row], column: int | None) -> list[str] | str:
        """The texts of a column; empty where there is none."""
        return "" if column is None else [self.known.setdefault(fields[column], fields[column]) for _, fields in rows]


def _particles(rows: list[Row], table: _Reading) -> Particles:
    names, at, where = table.names, table.at, table.where
    positions = np.empty((len(rows), 3))
    scores = np.full(len(rows), np.nan)
    width, zyx = len(names), (at.z, at.y, at.x)
    for i, (line, fields) in enumerate(rows):
        if len(fields) < width:
            raise InputError(f"{where}, line {line}: {len(fields)} fields, expected {width} ({shown(','.join(names))})")
        if len(fields) > width and any(fields[width:]):
            raise InputError(
                f"{where}, line {line}: {len(fields)} fields, expected {width} ({shown(','.join(names))}); are there decimal commas?"
            )
        try:
            positions[i] = [number(fields[column]) for column in zyx]
        except ValueError:
            column = next(column for column in (at.x, at.y, at.z) if not _is_number(fields[column]))
            comma = "; write a decimal point, not a comma" if _is_number(fields[column].replace(",", ".")) else ""
            raise InputError(f"{where}, line {line}: {names[column]} must be a number, found '{shown(fields[column])}'{comma}") from None
        if not all(map(math.isfinite, positions[i].tolist())):
            raise InputError(f"{where}, line {line}: the position must be finite, found {shown(','.join(fields))}")
        if at.score is not None and fields[at.score]:
            try:
                scores[i] = number(fields[at.score])
            except ValueError:
                raise InputError(f"{where}, line {line}: score must be a number, found '{shown(fields[at.score])}'") from None
    return Particles.build(
        positions,
        unit=at.unit,
        tomogram=table.texts(rows, at.tomogram),
        species=table.texts(rows, at.species),
        score=scores,
        label=1 if at.label is None else labels([fields[at.label] for _, fields in rows], where, table.first),
        rotation=None if at.angles is None else matrices(_angles(rows, names, at.angles, where), "relion"),
    )


def _angles(rows: list[Row], names: list[str], columns: tuple[int, int, int], where: str) -> np.ndarray:
    """The angles; NaN in rows where nothing stands."""
    found = np.full((len(rows), 3), np.nan)
    for i, (line, fields) in enumerate(rows):
        for axis, column in enumerate(columns):
            try:
                found[i, axis] = number(fields[column]) if fields[column] else math.nan
            except ValueError:
                raise InputError(f"{where}, line {line}: {names[column]} must be a number, found '{shown(fields[column])}'") from None
    return found


class _Records:
    """Feeds the CSV reader line by line, without the comments and blank lines between records.

    The first line that is neither says how fields are separated; Excel's `sep=;` is no record.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.at = 0  # lines given out or skipped
        self.is_between = True
        self.delimiter: str | None = None  # blanks
        self._comments: list[tuple[int, str]] = []  # the first of them
        self._waiting: list[str] = []
        for line in self._passing():
            self.delimiter = next((d for d in _DELIMITERS if d in line), None)
            if line.strip().lower().startswith("sep=") and len(line.strip()) <= len("sep=,"):
                self.delimiter = line.strip()[len("sep=") :] or "\t"
            else:
                self._waiting = [line]
            break

    @property
    def comments(self) -> list[Row]:
        """The comments so far, split as rows are."""
        return [
            (at, line.split() if self.delimiter is None else [field.strip() for field in line.split(self.delimiter)])
            for at, line in self._comments
        ]

    def __iter__(self) -> Iterator[str]:
        for line in itertools.chain(self._waiting, self._passing()):
            self.is_between = False
            yield line + "\n"

    def _passing(self) -> Iterator[str]:
        """The lines that are of records."""
        for line in self._lines:
            self.at += 1
            if self.is_between and (not line.strip() or line.lstrip().startswith("#")):
                if line.strip() and len(self._comments) < _MOST_COMMENTS:
                    self._comments.append((self.at, line))
                continue
            yield line


def _rows(records: _Records, where: str) -> Iterator[Row]:
    """Split into fields, all stripped."""
    if records.delimiter is None:
        for line in records:
            yield records.at, line.split()
            records.is_between = True
        return
    try:
        for fields in csv.reader(records, delimiter=records.delimiter):
            if any(stripped := [field.strip() for field in fields]):
                yield records.at, stripped
            records.is_between = True
    except csv.Error as error:
        raise InputError(f"{where}, line {records.at}: it can't be read as CSV ({error}); is a quote never closed?") from None


def _tell_comments(comments: list[Row], at: Columns, width: int, where: str, conversion: Conversion) -> None:
    """Report which comments could be rows of a tomogram whose name begins with #."""
    if at.x == 0 or at.tomogram is None:
        return
    lines = [line for line, fields in comments if len(fields) == width and all(_is_number(fields[column]) for column in (at.x, at.y, at.z))]
    if lines:
        conversion.progress.warn(
            f"{where}: line {', '.join(map(str, lines[:5]))}{' ...' if len(lines) > 5 else ''} ({len(lines)} in all) begins with # and is passed "
            'over as a comment; if it is a row, quote its first field: "#1"'
        )


def _is_number(text: str) -> bool:
    try:
        number(text)
    except ValueError:
        return False
    return True


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
    is_labelled = particles.has_negatives
    turned: list[list[float]] = [[]] * len(particles) if particles.rotation is None else angles(particles.rotation, "relion").tolist()
    writer.writerow(
        [column.replace("angstrom", unit) for column in HEADER] + list(ANGLES) * (particles.rotation is not None) + [LABEL] * is_labelled
    )
    columns = (particles.tomogram, particles.species, particles.position_zyx.tolist(), particles.score.tolist(), particles.label.tolist())
    for tomogram, species, (z, y, x), score, label, degrees in zip(*columns, turned, strict=True):
        row = [tomogram, species, *map(_text, (x, y, z, score, *degrees))]
        if tomogram.startswith("#"):  # else it would read as a comment
            text.write('"' + tomogram.replace('"', '""') + '",')
            row = row[1:]
        writer.writerow([*row, label] if is_labelled else row)
    return text.getvalue()


def _text(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the table in angstrom.

    Raises
    ------
    InputError
        If the voxel spacing is needed and not given.
    """
    text = csv_text(conversion.written_in(particles, "angstrom", "a picks table in angstrom"))
    write_atomically(path, text)


FORMAT = TableFormat(read=read, write=write, ending=".csv", known_by=(".csv", ".txt", ".tsv"), labelled=True, headerless=True)
