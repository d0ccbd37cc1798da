"""How are clicks kept so that none is ever lost?  In one CSV table that is read, merged and replaced at every click.

A table is a set of rows.  A *patch* is what one action changes: rows that go and rows that come (a move is both).

1. Under a lock, the present table is read, with the changes of other processes.
2. Rows to remove are taken out; one that is missing already gives a message, not an error: another page or program has moved or removed it.
3. New rows are added; one that exists already is not duplicated.
4. The table is written beside, synchronised, and renamed over the old one, if that is still what was read; else it begins again.  A kill at any
   moment leaves the one or the other.

So patches of two pages, and changes by other programs, are merged; nothing is overwritten that this process has not read.  What others
have changed since the last look is counted, so that the page can tell.  Rows, columns and comments that the workbench does not know keep
their fields to the letter.  A table that can't be read is refused and left alone; the page keeps its patch and tries again.

Columns: those of any table of points with a header, and `label`: 1 a particle (default), 0 not a particle.
Positions are exchanged in angstrom; a table in voxels stays in voxels (the tomograms tell their spacing).

Limits: a program that takes no lock is not merged if it writes in the instant between our last look and our renaming, nor if it goes on
writing into the file that it had opened before.
"""

from __future__ import annotations

import csv
import fcntl
import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from tomostream.errors import BusyError, InputError

POSITIONS = {
    ("x_angstrom", "y_angstrom", "z_angstrom"): "angstrom",
    ("x_voxel", "y_voxel", "z_voxel"): "voxel",
    ("x_coord", "y_coord", "z_coord"): "voxel",
}
_TOMOGRAM = ("tomogram", "tomogram_name")
NEW_HEADER = ("tomogram", "species", "x_angstrom", "y_angstrom", "z_angstrom", "label")
MOST_BYTES = 50_000_000  # of a table of clicks: a million rows
_TRIES = 20  # to write what was merged before another program writes again


class Click(NamedTuple):
    """A row: position (angstrom), species, and whether it is a particle (label 1) or not (0)."""

    tomogram: str
    species: str
    x: float
    y: float
    z: float
    label: int

    def check(self) -> None:
        """Refuse an impossible click.

        Raises
        ------
        InputError
            If a name is empty or holds control characters, a number is not finite, or the label is neither 0 nor 1.
        """
        for what, name in (("tomogram", self.tomogram), ("species", self.species)):
            if not name or len(name) > 200 or not name.isprintable() or name.startswith("#"):
                raise InputError(f"a click's {what} must be a name of 1 to 200 printable characters, found {name[:40]!r}")
        if not all(math.isfinite(value) and abs(value) < 1e9 for value in (self.x, self.y, self.z)):
            raise InputError(f"a click's position must be finite, found {self.x}, {self.y}, {self.z}")
        if self.label not in (0, 1):
            raise InputError(f"a click's label must be 1 (a particle) or 0 (not a particle), found {self.label}")


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the file: its original fields, and its click (None: a comment, or of an unknown tomogram)."""

    fields: tuple[str, ...]
    click: Click | None


@dataclass(frozen=True, slots=True)
class _Table:
    header: tuple[str, ...]
    unit: str
    delimiter: str
    rows: tuple[_Row, ...]
    comments: int = 0  # rows that stand before the header

    @property
    def clicks(self) -> list[Click]:
        return [row.click for row in self.rows if row.click is not None]


@dataclass(slots=True)
class Outcome:
    """The table after reading or a patch, and messages about it.

    Parameters
    ----------
    clicks
        All of them.
    revision
        Changes whenever the clicks do.
    missing
        Rows of the patch that should go and were gone.
    added_by_others, removed_by_others
        Rows that have come and gone since this process last looked.
    unreadable
        Rows whose position can't be shown: of tomograms without known spacing.
    """

    clicks: list[Click]
    revision: int
    missing: list[Click] = field(default_factory=list)
    added_by_others: int = 0
    removed_by_others: int = 0
    unreadable: int = 0


class ClickTable:
    """A table of clicks on disk.

    Parameters
    ----------
    path
        The file; it is made with the first click.
    spacing_of
        Voxel spacing of a tomogram by name (angstrom), None if it is not known.
    tomogram, species
        Names for rows that have none.
    """

    def __init__(self, path: Path, *, spacing_of: Callable[[str], float | None], tomogram: str = "", species: str = "particle") -> None:
        self.path = path
        self._spacing_of = spacing_of
        self._tomogram, self._species = tomogram, species
        self._seen: frozenset[Click] | None = None
        self._revision = 0
        self._stamp: tuple[int, int, int] | None = None
        self._last: _Table | None = None

    def look(self) -> Outcome:
        """Read the table if it has changed.

        Raises
        ------
        InputError
            If it can't be read.
        """
        if self._last is not None and self._stamp == self._stamp_now():
            return self._outcome(self._last)
        stamp = self._stamp_now()
        table = self._read()
        outcome = self._noted(table)
        self._stamp = stamp
        return outcome

    def patch(self, *, remove: Sequence[Click], add: Sequence[Click]) -> Outcome:
        """Remove and add rows, merged with the changes of other processes.

        Raises
        ------
        InputError
            If a row is no click, or the table can't be read or written; then nothing is changed.
        BusyError
            If another program writes the table all the time; likewise.
        """
        for click in add:
            click.check()
        with self._locked():
            for _ in range(_TRIES):
                stamp = self._stamp_now()
                table = self._read()
                rows, missing = _without(table.rows, remove)
                there = {row.click for row in rows}
                fresh = [click for click in dict.fromkeys(add) if click not in there]
                is_changed = bool(fresh) or len(rows) != len(table.rows)
                changed = self._with(replace(table, rows=tuple(rows)), fresh) if is_changed else table
                if is_changed and not self._write(changed, instead_of=stamp):
                    continue  # another program has written meanwhile: merge with that
                outcome = self._noted(table)
                if is_changed:
                    others = (outcome.added_by_others, outcome.removed_by_others)
                    self._seen, self._last = frozenset(changed.clicks), changed
                    self._revision += 1
                    self._stamp = self._stamp_now()
                    outcome = self._outcome(changed)
                    outcome.added_by_others, outcome.removed_by_others = others
                outcome.missing = missing
                return outcome
        raise BusyError(f"clicks {self.path}: another program writes it all the time; nothing was changed; try again when it has finished")

    def _noted(self, table: _Table) -> Outcome:
        """Compare with the last known content."""
        now = frozenset(table.clicks)
        seen = now if self._seen is None else self._seen
        if self._seen is None or now != self._seen:
            self._revision += 1
        self._seen, self._last = now, table
        outcome = self._outcome(table)
        outcome.added_by_others, outcome.removed_by_others = len(now - seen), len(seen - now)
        return outcome

    def _outcome(self, table: _Table) -> Outcome:
        unreadable = sum(row.click is None and not row.fields[0].startswith("#") for row in table.rows)
        return Outcome(list(dict.fromkeys(table.clicks)), self._revision, unreadable=unreadable)

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Wait for the lock that all workbenches on this table share."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = self.path.with_name(f".{self.path.name}.lock").open("a")
        except OSError as error:
            raise InputError(f"clicks {self.path} can't be written: {error.strerror}; choose another table with --clicks") from None
        with handle:
            fcntl.flock(handle.fileno(), fcntl.LOCK_EX)
            yield

    def _read(self) -> _Table:
        try:
            if self.path.stat().st_size > MOST_BYTES:
                raise InputError(
                    f"clicks {self.path} has over {MOST_BYTES} bytes: it is not a table of clicks; choose another with --clicks"
                )
            text = self.path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return _Table(NEW_HEADER, "angstrom", ",", ())
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"clicks {self.path} can't be read as text ({error}); it is left unchanged: correct it, or choose another with --clicks"
            ) from None
        return self._parsed(text)

    def _parsed(self, text: str) -> _Table:
        lines = [line for line in text.splitlines() if line.strip()]
        first = next((line for line in lines if not line.startswith("#")), "")
        delimiter = next((d for d in (",", ";", "\t") if d in first), ",")
        header: tuple[str, ...] | None = None
        unit, at = "angstrom", dict[str, int]()
        rows: list[_Row] = []
        comments = 0
        for number, fields in enumerate(csv.reader(io.StringIO(text), delimiter=delimiter), 1):
            if not any(cell.strip() for cell in fields):
                continue
            if fields[0].startswith("#"):
                rows.append(_Row(tuple(fields), None))
            elif header is None:
                header = tuple(fields)
                unit, at = self._columns(header)
                comments = len(rows)
            else:
                rows.append(_Row(tuple(fields), self._click(fields, at, unit, number)))
        if header is None:
            header = NEW_HEADER
        return _Table(header, unit, delimiter, tuple(rows), comments)

    def _columns(self, header: Sequence[str]) -> tuple[str, dict[str, int]]:
        """The unit, and the columns of x, y, z, tomogram, species and label."""
        names = [name.strip().lower() for name in header]
        for xyz, unit in POSITIONS.items():
            if set(xyz) <= set(names):
                at = {axis: names.index(name) for axis, name in zip("xyz", xyz, strict=True)}
                at |= {name: names.index(name) for name in ("species", "label") if name in names}
                named = next((name for name in _TOMOGRAM if name in names), None)
                if named is not None:
                    at["tomogram"] = names.index(named)
                return unit, at
        raise InputError(
            f"clicks {self.path}: its columns are {','.join(header)[:200]}; the workbench needs a CSV table with a header such as "
            f"{','.join(NEW_HEADER)} (`tomostream import` makes one); it is left unchanged"
        )

    def _click(self, fields: Sequence[str], at: dict[str, int], unit: str, line: int) -> Click | None:
        def text(name: str, default: str) -> str:
            index = at.get(name)
            return (fields[index].strip() if index is not None and index < len(fields) else "") or default

        try:
            position = [float(text(axis, "")) for axis in "xyz"]
            label = float(text("label", "1"))
        except ValueError:
            raise InputError(
                f"clicks {self.path}, line {line}: {','.join(fields)[:200]} is not a click; the table is left unchanged"
            ) from None
        tomogram = text("tomogram", self._tomogram)
        if unit == "voxel":
            spacing = self._spacing_of(tomogram)
            if spacing is None:
                return None
            position = [value * spacing for value in position]
        x, y, z = position
        click = Click(tomogram, text("species", self._species), x, y, z, int(label))
        if label not in (0, 1) or not all(map(math.isfinite, position)):
            raise InputError(
                f"clicks {self.path}, line {line}: {','.join(fields)[:200]}: positions must be finite, and the label 0 or 1; the table is left unchanged"
            )
        return click

    def _with(self, table: _Table, clicks: Sequence[Click]) -> _Table:
        """Append clicks in the table's own columns; missing columns are added last."""
        if not clicks:
            return table
        header, rows = list(table.header), list(table.rows)
        _, at = self._columns(header)
        for name, is_needed, fill in (
            ("tomogram", any(click.tomogram != self._tomogram for click in clicks), lambda click: click.tomogram),
            ("species", any(click.species != self._species for click in clicks), lambda click: click.species),
            ("label", any(click.label != 1 for click in clicks), lambda click: str(click.label)),
        ):
            if name not in at and is_needed:
                at[name] = len(header)
                header.append(name)
                rows = [row if row.click is None else _Row(_padded(row.fields, at[name], fill(row.click)), row.click) for row in rows]
        for click in clicks:
            fields = [""] * len(header)
            spacing = 1.0
            if table.unit == "voxel":
                known = self._spacing_of(click.tomogram)
                if known is None:
                    raise InputError(f"clicks {self.path} are in voxels, and the voxel spacing of '{click.tomogram}' is not known")
                spacing = known
            values = {"x": click.x / spacing, "y": click.y / spacing, "z": click.z / spacing}
            for name, index in at.items():
                fields[index] = repr(values[name]) if name in values else str(getattr(click, name))
            x, y, z = (values[axis] * spacing for axis in "xyz")
            rows.append(_Row(tuple(fields), click._replace(x=x, y=y, z=z)))
        return replace(table, header=tuple(header), rows=tuple(rows))

    def _write(self, table: _Table, *, instead_of: tuple[int, int, int] | None) -> bool:
        """Replace the table if it is still the one with this stamp; returns whether it was."""
        text = io.StringIO()
        writer = csv.writer(text, delimiter=table.delimiter, lineterminator="\n")
        writer.writerows(row.fields for row in table.rows[: table.comments])
        writer.writerow(table.header)
        writer.writerows(row.fields for row in table.rows[table.comments :])
        beside = self.path.with_name(f".{self.path.name}.tmp")
        try:
            with beside.open("w", encoding="utf-8") as handle:
                handle.write(text.getvalue())
                handle.flush()
                os.fsync(handle.fileno())
            if self._stamp_now() != instead_of:
                return False
            beside.replace(self.path)
        except OSError as error:
            raise InputError(
                f"clicks {self.path} can't be written: {error.strerror}; free some space, or choose another with --clicks"
            ) from None
        return True


def _without(rows: Sequence[_Row], remove: Sequence[Click]) -> tuple[list[_Row], list[Click]]:
    """Return the remaining rows, and the rows to remove that do not exist."""
    there = {row.click for row in rows}
    gone = set(remove)
    return [row for row in rows if row.click is None or row.click not in gone], [
        click for click in dict.fromkeys(remove) if click not in there
    ]


def _padded(fields: tuple[str, ...], index: int, value: str) -> tuple[str, ...]:
    return (*fields, *[""] * (index - len(fields)), value)
