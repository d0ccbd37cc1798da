"""Dynamo tables: `.tbl`, text, one row of numbers a particle; beside it `.doc`, which names the tomogram of each number.

Convention: columns 24 to 26 are x, y, z in voxels, columns 4 to 6 the shifts that alignment found, which are added; column 10 is the score
(all zeros: there is none), column 20 the tomogram's number.  Dynamo's documents do not say whether voxels count from 0 or 1; like the
converters in use (dynamo2m, ArtiaX) no 1 is added or taken off.  One file holds one species.  The map `NAME.doc` has lines `NUMBER FILE`;
without it a table of one tomogram is that of its file's stem, unless it is named.

References
----------
Dynamo's table convention, https://wiki.dynamo.biozentrum.unibas.ch/w/index.php/Table_convention
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.registry import Conversion, file_tomogram
from tomostream.particles import Particles
from tomostream.remote.atomic_files import write_atomically
from tomostream.store.naming import tomogram_name

_COLUMNS = 40
_TAG, _ALIGNED, _SHIFT, _SCORE, _TOMOGRAM, _REGION, _CLASS, _X, _PIXEL = 0, 1, 3, 9, 19, 20, 21, 23, 35  # counted from 0
_USED = (*range(_SHIFT, _SHIFT + 3), _SCORE, _TOMOGRAM, *range(_X, _X + 3))


def read(path: Path, conversion: Conversion) -> Particles:
    """Read positions (with their shifts) as voxels.

    Raises
    ------
    InputError
        If it is no such table, or the tomograms' names are not known.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(_lines(path), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            rows.append([float(fields[column]) for column in _USED])  # others may hold complex numbers
        except (ValueError, IndexError):
            raise InputError(f"{path}, line {number}: expected {_X + 3} columns or more, numbers in {[c + 1 for c in _USED]}") from None
        if not all(map(math.isfinite, rows[-1])):
            raise InputError(f"{path}, line {number}: every number must be finite, found '{line.strip()[:120]}'")
    table = np.array(rows).reshape(-1, len(_USED))
    xyz = table[:, 5:8] + table[:, 0:3]
    score = table[:, 3] if table[:, 3].any() else np.nan
    return Particles.build(xyz[:, ::-1], unit="voxel", tomogram=_names(path, table[:, 4], conversion), score=score)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read as text: {error}") from None


def _names(path: Path, numbers: np.ndarray, conversion: Conversion) -> list[str]:
    table_map = path.with_suffix(".doc")
    if not table_map.exists():
        if len(np.unique(numbers)) > 1:
            raise InputError(f"{path} holds {len(np.unique(numbers))} tomograms and their names are not known; put {table_map} beside it")
        return [file_tomogram(path, conversion)] * len(numbers)
    pairs = (line.split(maxsplit=1) for line in _lines(table_map) if line.strip())
    try:
        names = {float(number): tomogram_name(file.strip()) for number, file in pairs}
    except ValueError:
        raise InputError(f"{table_map}: expected lines 'NUMBER FILE', as 1 TS_01.mrc") from None
    if unknown := sorted(set(numbers.tolist()) - set(names)):
        raise InputError(f"{table_map} does not name tomogram {', '.join(f'{n:g}' for n in unknown)} of {path.name}")
    return [names[number] for number in numbers.tolist()]


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the table and, beside it, the map of tomograms (names; complete them to the volumes' paths before Dynamo crops).

    Raises
    ------
    InputError
        If the voxel spacing is needed and not given.
    """
    found = conversion.to_unit(particles, "voxel", "dynamo (voxels)")
    names = found.tomograms()
    lines = []
    for i, ((z, y, x), name, score) in enumerate(zip(found.position_zyx.tolist(), found.tomogram, found.score.tolist(), strict=True)):
        row = ["0"] * _COLUMNS
        row[_TAG], row[_ALIGNED], row[_REGION], row[_CLASS] = str(i + 1), "1", "1", "1"
        row[_SCORE] = "0" if math.isnan(score) else repr(score)
        row[_TOMOGRAM] = str(names.index(name) + 1)
        row[_X : _X + 3] = repr(x), repr(y), repr(z)
        row[_PIXEL] = repr(float(conversion.spacings.get(name, conversion.spacing) or 0))
        lines.append(" ".join(row) + "\n")
    for target, text in (
        (path.with_suffix(".doc"), "".join(f"{i} {name or path.stem}\n" for i, name in enumerate(names, 1))),
        (path, "".join(lines)),
    ):
        write_atomically(target, text)
