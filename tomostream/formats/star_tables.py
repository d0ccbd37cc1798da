"""What the STAR formats share: finding the table of particles, reading its numbers exactly, naming tomograms, writing.

STAR files of particles know no species: one file holds one.  Numbers are written as the shortest text that reads back exactly, and
are parsed by Python, not by the table reader, whose last digit may differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.registry import Conversion, file_tomogram
from tomostream.remote.atomic_files import write_atomically
from tomostream.store.naming import tomogram_name

if TYPE_CHECKING:
    import pandas as pd

TOMOGRAM, MICROGRAPH = "rlnTomoName", "rlnMicrographName"
SCORE = "rlnAutopickFigureOfMerit"
SCORES = (SCORE, "rlnLCCmax")  # the second is pytom-match-pick's
COORDINATES = ("rlnCoordinateZ", "rlnCoordinateY", "rlnCoordinateX")
CENTERED_HINT = "; coordinates in angstrom from the centre are those of --format star-relion5"
MISSING = "<NA>"  # crYOLO's word for no value
_ORIGINS = ("rlnOriginZAngst", "rlnOriginYAngst", "rlnOriginXAngst")
_SUBTOMOGRAM_ANGLES = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
_EXACT = (*COORDINATES, *SCORES, *_ORIGINS, *(f"rlnCenteredCoordinate{axis}Angst" for axis in "ZYX"), TOMOGRAM, MICROGRAPH)


def read_blocks(path: Path, *, as_text: Sequence[str] = _EXACT) -> dict[str, pd.DataFrame]:
    """Read the tables of a STAR file by their blocks' names; the columns `as_text` are left as text.

    Raises
    ------
    InputError
        If it is no STAR file.
    """
    import pandas as pd  # noqa: PLC0415  (export starts in under a second: only reading needs these)
    import starfile  # noqa: PLC0415  (as above)

    try:
        blocks = starfile.read(path, always_dict=True, parse_as_string=list(as_text))
    except Exception as error:  # starfile lets its parser's errors through
        raise InputError(f"{path} is no STAR file: {error}") from None
    return {name: block for name, block in blocks.items() if isinstance(block, pd.DataFrame)}


def particle_table(path: Path, tables: Mapping[str, pd.DataFrame], columns: Sequence[str], hint: str = "") -> pd.DataFrame:
    """Choose the block `particles`, or the only one, and check its columns.

    Raises
    ------
    InputError
        If there is none, or it lacks a column; `hint` says what else it may be.
    """
    table = tables.get("particles", next(iter(tables.values()), None))
    if table is None:
        raise InputError(f"{path} holds no table of particles")
    if missing := [column for column in columns if column not in table]:
        raise InputError(f"{path} lacks {', '.join(missing)}{hint}; its columns are {', '.join(map(str, table.columns))}")
    return table


def numbers(path: Path, table: pd.DataFrame, columns: Sequence[str], *, may_lack: bool = False) -> np.ndarray:
    """Return columns as float64 (rows, columns), parsed exactly; `may_lack` lets `<NA>`, `nan` and their like stand for no value.

    Raises
    ------
    InputError
        If a value is no number, or not finite.
    """
    found = np.empty((len(table), len(columns)))
    for j, column in enumerate(columns):
        for i, value in enumerate(table[column].tolist()):
            try:
                found[i, j] = float(value)
            except (TypeError, ValueError):
                raise InputError(f"{path}, particle {i + 1}: {column} must be a number, found '{value}'") from None
    if not may_lack and not np.isfinite(found).all():
        i, j = np.argwhere(~np.isfinite(found))[0]
        raise InputError(f"{path}, particle {i + 1}: {columns[j]} must be finite, found {found[i, j]}")
    return found


def tomograms(path: Path, table: pd.DataFrame, conversion: Conversion) -> np.ndarray:
    """Name each row's tomogram: `rlnTomoName`, or the file in `rlnMicrographName`, or the name given, or the file's.

    Raises
    ------
    InputError
        If a row has no name (`nan`, `None` and their like count as none).
    """
    column = next((name for name in (TOMOGRAM, MICROGRAPH) if name in table), None)
    if column is None:
        return np.full(len(table), file_tomogram(path, conversion), dtype=object)
    values = table[column].tolist()
    if unnamed := [i for i, value in enumerate(values, 1) if not isinstance(value, str)]:
        raise InputError(f"{path}, particle {unnamed[0]}: {column} must be a name, found '{values[unnamed[0] - 1]}'")
    if column == MICROGRAPH:
        values = [tomogram_name(value.removesuffix(".tomostar")) for value in values]
    return np.array(values, dtype=object)


def scores(path: Path, table: pd.DataFrame) -> np.ndarray:
    """Return the first known column of scores, else NaN."""
    column = next((name for name in SCORES if name in table), None)
    return np.full(len(table), np.nan) if column is None else numbers(path, table, [column], may_lack=True)[:, 0]


def refined_shifts_ang(path: Path, table: pd.DataFrame) -> np.ndarray:
    """Return the shifts (z, y, x; angstrom) that refinement found, to be subtracted from the coordinates; zero where there are none.

    Raises
    ------
    InputError
        If they count along the axes of turned subtomograms.
    """
    if not set(_ORIGINS) <= set(table.columns):
        return np.zeros((len(table), 3))
    found = numbers(path, table, _ORIGINS)
    angles = [name for name in _SUBTOMOGRAM_ANGLES if name in table]
    if found.any() and angles and numbers(path, table, angles).any():
        raise InputError(
            f"{path}: its shifts {_ORIGINS[2]}, ... are along the axes of turned subtomograms ({', '.join(angles)}), "
            "which is not supported; let RELION apply them (re-centre the particles) first"
        )
    return found


def write_particles(path: Path, columns: Mapping[str, np.ndarray], score: np.ndarray) -> None:
    """Write one block `particles`: the columns, and the score if there is any."""
    scored = {} if np.isnan(score).all() else {SCORE: score}
    write_blocks(path, {"particles": {**columns, **scored}}, missing="nan")


def coordinate_columns(names: Sequence[str], position_zyx: np.ndarray) -> dict[str, np.ndarray]:
    """Name the columns of positions; `names` are in the order z, y, x, the columns in the order x, y, z."""
    return {names[axis]: position_zyx[:, axis] for axis in (2, 1, 0)}


def write_blocks(path: Path, blocks: Mapping[str, Mapping[str, str | np.ndarray]], *, missing: str) -> None:
    """Write a STAR file, whole or not at all.

    Parameters
    ----------
    path
        The file.
    blocks
        By name: single values, or columns (text, int64 or float64) of one length.
    missing
        What stands for NaN.

    Raises
    ------
    InputError
        If a text can't stand in a STAR file.
    """

    def text(value: object) -> str:
        if isinstance(value, float):
            return missing if np.isnan(value) else repr(value)
        word = str(value)
        if "\n" in word or ('"' in word and (not word or any(c.isspace() for c in word))):
            raise InputError(f"{path}: {word!r} can't be written in a STAR file; rename it")
        is_plain = word and not any(c.isspace() for c in word) and word[0] not in "_#$'\""
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
