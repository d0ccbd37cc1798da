"""The STAR files of cryo-EM software, as text: blocks of named columns.

1. `data_NAME` begins a block, `loop_` the columns' names (`_rlnTomoName #1`) and after them one row per line; without `loop_` each line is a
   name and its value, a table of one row.
2. Values are parted by blanks; `"..."` and `'...'` at a value's beginning hold blanks.  `#` at a value's beginning is a comment's; inside of
   a value it is a letter, as in the STAR standard (some readers cut there, so none is written).
3. A row that has not as many values as there are columns is refused with its line: nothing shifts silently.

Nothing is kept between two readings, and values stay text: the caller parses numbers exactly.

References
----------
S. R. Hall (1991), The STAR file: a new format for electronic data transfer and archiving, J Chem Inf Comput Sci 31:326.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.text_files import read_lines
from tomostream.remote.atomic_files import write_atomically

_VALUE = re.compile(r"""\s*(?:"(?P<double>.*?)"(?=\s|$)|'(?P<single>.*?)'(?=\s|$)|(?P<comment>\#.*)|(?P<plain>\S+))""")
_BEGINNINGS = ("data_", "loop_", "save_", "stop_", "global_")  # words that a value must not begin with, unless it is quoted


@dataclass(slots=True)
class StarTable:
    """A block's columns, each as text, in the file's order."""

    block: str
    columns: dict[str, list[str]] = field(default_factory=dict)

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def __getitem__(self, column: str) -> list[str]:
        return self.columns[column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))


def read_star(path: Path) -> list[StarTable]:
    """Read all blocks that have columns.

    Raises
    ------
    InputError
        If it is no STAR file, a column is there twice, or a row has too few or too many values.
    """
    lines = read_lines(path)
    if not any(line.lstrip().startswith("data_") for line in lines):
        raise InputError(f"{path} is not a STAR file: it has no block data_...")
    parser = _Parser(path)
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words and words[0][0] != "#":
            parser.take(number, line, words)
    parser.close()
    return [table for table in parser.tables if table.columns]


class _Parser:
    """Takes a file's lines, one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.tables: list[StarTable] = []
        self._names: list[str] = []
        self._rows: list[list[str]] = []
        self._is_loop = False
        self._may_name = True  # columns: not after the first row of a loop

    def take(self, number: int, line: str, words: list[str]) -> None:
        first = words[0]
        if first.startswith("data_"):
            self._begin(StarTable(first.removeprefix("data_")), is_loop=False)
        elif not self.tables:
            raise InputError(f"{self._path}, line {number} is not valid STAR: expected data_..., found '{line.strip()[:60]}'")
        elif first == "loop_":
            self._begin(StarTable(self.tables[-1].block), is_loop=True)  # a second loop of one block is a table of its own
        elif first[0] == "_" and self._may_name:
            self._name(number, line, first[1:])
        else:
            self._row(number, line, words)

    def _begin(self, table: StarTable, *, is_loop: bool) -> None:
        self.close()
        self.tables.append(table)
        self._is_loop, self._may_name = is_loop, True

    def _name(self, number: int, line: str, name: str) -> None:
        if name in self._names:
            raise InputError(
                f"{self._path}, line {number}: block '{self.tables[-1].block}' has the column {name} twice; remove one of them"
            )
        self._names.append(name)
        if self._is_loop:
            return
        values = _values(line)
        if len(values) != 2:
            raise InputError(f"{self._path}, line {number}: expected a name and one value, found '{line.strip()[:60]}'")
        self._rows[:] = [[*(self._rows[0] if self._rows else []), values[1]]]

    def _row(self, number: int, line: str, words: list[str]) -> None:
        values = words if not any(mark in line for mark in "\"'#") else _values(line)
        if not self._is_loop or not self._names:
            raise InputError(f"{self._path}, line {number} is not valid STAR: a row without columns, '{line.strip()[:60]}'")
        if len(values) != len(self._names):
            raise InputError(
                f"{self._path}, line {number} has {len(values)} values, but {len(self._names)} columns are named ({', '.join(self._names)})"
            )
        self._may_name = False
        self._rows.append(values)

    def close(self) -> None:
        """End the table: its columns are complete."""
        if self._names:
            columns = zip(*self._rows, strict=True) if self._rows else ([] for _ in self._names)
            self.tables[-1].columns.update((name, list(values)) for name, values in zip(self._names, columns, strict=True))
        self._names, self._rows = [], []


def _values(line: str) -> list[str]:
    values = []
    for match in _VALUE.finditer(line):
        if match["comment"] is not None:
            break
        values.append(next(text for text in (match["double"], match["single"], match["plain"]) if text is not None))
    return values


def write_star(path: Path, blocks: Mapping[str, Mapping[str, str | np.ndarray]], *, missing: str) -> None:
    """Write a STAR file, completely or not at all.

    Parameters
    ----------
    path
        The file.
    blocks
        By name: single values, or columns (text, int64 or float64) of one length.
    missing
        Text for NaN.

    Raises
    ------
    InputError
        If a text can't stand in a STAR file that every reader reads alike.
    """

    def text(value: object) -> str:
        if isinstance(value, float):
            return missing if np.isnan(value) else repr(value)
        word = str(value)
        has_blank = any(letter.isspace() for letter in word)
        if "\n" in word or "#" in word or ('"' in word and (not word or has_blank)):
            raise InputError(f"{path}: {word!r} can't be written in a STAR file (readers cut names at # and at quotes); rename it")
        is_plain = word and not has_blank and word[0] not in "_$'\"" and not word.startswith(_BEGINNINGS)
        return word if is_plain else f'"{word}"'

    lines: list[str] = []
    for name, block in blocks.items():
        lines += ["", f"data_{name}", ""]
        columns = {key: values.tolist() for key, values in block.items() if not isinstance(values, str)}
        lines += [f"_{key} {values}" for key, values in block.items() if isinstance(values, str)]
        if columns:
            lines += ["loop_", *(f"_{key} #{i}" for i, key in enumerate(columns, 1))]
            lines += ["\t".join(map(text, row)) for row in zip(*columns.values(), strict=True)]
        lines.append("")
    write_atomically(path, "\n".join(lines) + "\n")
