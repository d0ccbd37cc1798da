"""Dynamo tables: `.tbl`, text, one row of numbers per particle; a `.doc` file beside it names the tomogram of each number.

Convention: columns 24 to 26 are x, y, z in voxels, columns 4 to 6 the shifts that alignment found, which are added; columns 7 to 9
are the angles tdrot, tilt, narot (degrees); column 10 is the score
(all zeros: there is none), column 20 the tomogram's number.  Dynamo's documents do not say whether voxels count from 0 or 1; like the
converters in use (dynamo2m, ArtiaX) no 1 is added or taken off.  One file holds one species.  The map `NAME.doc` has lines `NUMBER FILE`;
without it a table of one tomogram is that of its file's stem, unless it is named.

References
----------
Dynamo's table convention, https://wiki.dynamo.biozentrum.unibas.ch/w/index.php/Table_convention
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.checks import row_tomograms
from tomostream.formats.conversion import Conversion, file_tomogram
from tomostream.formats.table_format import TableFormat
from tomostream.formats.text_files import read_lines
from tomostream.orientations import angles, matrices, or_identity
from tomostream.particle_columns import number
from tomostream.particles import Particles
from tomostream.remote.atomic_files import write_atomically

_COLUMNS = 40
_TAG, _ALIGNED, _SHIFT, _ANGLES, _SCORE, _TOMOGRAM, _REGION, _CLASS, _X, _PIXEL = 0, 1, 3, 6, 9, 19, 20, 21, 23, 35  # counted from 0
_AGREES = 1e-3  # relative difference of two sizes of one pixel that rounding explains
_USED = (*range(_SHIFT, _SHIFT + 3), _SCORE, _TOMOGRAM, *range(_X, _X + 3), *range(_ANGLES, _ANGLES + 3))


def read(path: Path, conversion: Conversion) -> Particles:
    """Read positions (with their shifts) as voxels.

    Raises
    ------
    InputError
        If it is no such table, or the tomograms' names are not known.
    """
    rows: list[list[float]] = []
    pixels: list[float] = []
    for line_number, line in enumerate(read_lines(path), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            rows.append([number(fields[column]) for column in _USED])  # others may hold complex numbers
            pixels.append(number(fields[_PIXEL]) if len(fields) > _PIXEL else 0)
        except (ValueError, IndexError):
            raise InputError(
                f"{path}, line {line_number}: expected {_X + 3} columns or more, numbers in {[c + 1 for c in _USED]}"
            ) from None
        if not all(map(math.isfinite, rows[-1])):
            raise InputError(f"{path}, line {line_number}: every number must be finite, found '{line.strip()[:120]}'")
    table = np.array(rows).reshape(-1, len(_USED))
    xyz = table[:, 5:8] + table[:, 0:3]
    score = table[:, 3] if table[:, 3].any() else np.nan
    names = _names(path, table[:, 4], conversion)
    _tell_other_pixels(path, np.array(pixels), names, conversion)
    return Particles.build(xyz[:, ::-1], unit="voxel", tomogram=names, score=score, rotation=matrices(table[:, 8:11], "dynamo"))


def _tell_other_pixels(path: Path, pixels: np.ndarray, names: list[str], conversion: Conversion) -> None:
    """Compare the column of pixel sizes with the voxel sizes that are known; 0 and 1 mean that it was never set."""
    known = conversion.per_row(np.array(names, dtype=object), lambda name: conversion.known_spacing(name) or math.nan)
    with np.errstate(invalid="ignore"):
        bad = (pixels > 0) & (pixels != 1) & (np.abs(pixels / known - 1) > _AGREES)
    if bad.any():
        i = int(np.argmax(bad))
        conversion.progress.warn(
            f"{path} says that its pixels are {pixels[i]:g} A (column {_PIXEL + 1}), the voxels of tomogram '{names[i]}' are {known[i]:g} A; its "
            "positions are taken as voxels of that tomogram: if they are of another binning, give that one's voxel size"
        )


def _names(path: Path, numbers: np.ndarray, conversion: Conversion) -> list[str]:
    table_map = path.with_suffix(".doc")
    if not table_map.exists():
        if len(np.unique(numbers)) > 1:
            raise InputError(f"{path} holds {len(np.unique(numbers))} tomograms whose names are not known; put {table_map} beside it")
        return [file_tomogram(path, conversion)] * len(numbers)
    try:
        pairs = [(number(key), file.strip()) for key, file in (line.split(maxsplit=1) for line in read_lines(table_map) if line.strip())]
        files = dict(pairs)
        names = dict(zip(files, row_tomograms(files.values(), _unsaid(conversion), str(table_map), is_file=True), strict=True))
    except ValueError:
        raise InputError(f"{table_map}: expected lines 'NUMBER FILE', as 1 TS_01.mrc") from None
    if contradicted := [key for key, file in pairs if files[key] != file]:
        raise InputError(f"{table_map} gives number {contradicted[0]:g} to several tomograms; keep one of its lines")
    if unknown := sorted(set(numbers.tolist()) - set(names)):
        raise InputError(f"{table_map} does not name tomogram {', '.join(f'{n:g}' for n in unknown)} of {path.name}")
    return row_tomograms((names[key] for key in numbers.tolist()), conversion, str(path))


def _unsaid(conversion: Conversion) -> Conversion:
    """For the map, which may name tomograms that the table has no particle of."""
    return replace(conversion, tomogram=None)


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the table and, beside it, the map of tomograms (names; complete them to the volumes' paths before Dynamo crops).

    Raises
    ------
    InputError
        If the voxel spacing is needed and not given.
    """
    found = conversion.written_in(particles, "voxel", "dynamo (voxels)")
    names = {name: i for i, name in enumerate(found.tomograms(), 1)}
    lines = []
    turned = angles(or_identity(found.rotation, len(found)), "dynamo").tolist()
    for i, ((z, y, x), name, score, degrees) in enumerate(
        zip(found.position_zyx.tolist(), found.tomogram, found.score.tolist(), turned, strict=True)
    ):
        row = ["0"] * _COLUMNS
        row[_TAG], row[_ALIGNED], row[_REGION], row[_CLASS] = str(i + 1), "1", "1", "1"
        row[_SCORE] = "0" if math.isnan(score) else repr(score)
        row[_ANGLES : _ANGLES + 3] = [repr(angle + 0.0) if angle else "0" for angle in degrees]
        row[_TOMOGRAM] = str(names[name])
        row[_X : _X + 3] = repr(x), repr(y), repr(z)
        row[_PIXEL] = repr(float(conversion.known_spacing(name) or 0))
        lines.append(" ".join(row) + "\n")
    for target, text in (
        (path.with_suffix(".doc"), "".join(f"{i} {name or path.stem}\n" for name, i in names.items())),
        (path, "".join(lines)),
    ):
        write_atomically(target, text)


FORMAT = TableFormat(read=read, write=write, ending=".tbl", known_by=(".tbl",), one_species=True)
