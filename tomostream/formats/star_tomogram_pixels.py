"""STAR files in pixels of the tomogram: `rlnCoordinateX/Y/Z` as TomoTwin, pytom-match-pick, Warp and others write them.

Convention: voxel index of the tomogram that was picked.  The same columns mean unbinned pixels in RELION 4 (`star_relion4`), a factor of
4 to 10, which no column shows: hence the two names.  The tomogram is `rlnTomoName`, or the file in `rlnMicrographName`, or else the
STAR file's own name; the score is `rlnAutopickFigureOfMerit` or pytom's `rlnLCCmax`.  Read as voxels; the voxel size is asked for where
angstrom are needed.  Shifts that refinement found are subtracted: `rlnOriginX/Y/ZAngst`, or in pixels `rlnOriginX/Y/Z`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats import star_tables
from tomostream.formats.conversion import Conversion
from tomostream.formats.star_both_coordinates import check_both
from tomostream.formats.star_file import StarTable, read_star
from tomostream.formats.star_tables import COORDINATES
from tomostream.formats.table_format import TableFormat
from tomostream.particles import Particles

_WHY = "star-tomogram-pixels"
_PIXEL, _DETECTOR, _MAGNIFICATION = "rlnPixelSize", "rlnDetectorPixelSize", "rlnMagnification"
_TILT_SERIES = "rlnTomoTiltSeriesPixelSize"
# RELION 4's unbinned pixels; extracted images, which may be binned; the micrograph's; pytom-match-pick's voxel size, in angstrom
_MAY_BE_OTHERS = (_TILT_SERIES, "rlnImagePixelSize", "rlnMicrographPixelSize", _DETECTOR)
_MICROMETRE = 1e4  # angstrom


def read(path: Path, conversion: Conversion) -> Particles:
    """Read the block that has the columns as voxels.

    Raises
    ------
    InputError
        If it is no such file, it has refined shifts in angstrom and the voxel size is not known, or its pixel size or
        centred coordinates contradict.
    """
    tables = read_star(path)
    table = star_tables.particle_table(path, tables, COORDINATES, star_tables.CENTERED_HINT)
    names = star_tables.tomograms(path, table, conversion)
    positions = star_tables.positions(path, table) - star_tables.refined_shifts_pix(path, table)
    shifts = star_tables.refined_shifts_ang(path, table)
    if shifts.any():
        positions -= shifts / conversion.row_spacings(names, f"{_WHY} with shifts in angstrom")[:, None]
    _refuse_other_pixels(path, tables, table, names, conversion)
    _tell_other_pixels(path, tables, table, names, conversion)
    check_both(path, tables, table, names, conversion, pixels_ang=_known(names, conversion))
    return Particles.build(
        positions, unit="voxel", tomogram=names, score=star_tables.scores(path, table), rotation=star_tables.rotations(path, table)
    )


def _refuse_other_pixels(path: Path, tables: Sequence[StarTable], table: StarTable, names: np.ndarray, conversion: Conversion) -> None:
    """Compare the pixel size in the file, if there is one, with the known voxel size."""
    if (sizes := star_tables.of_rows(path, tables, table, [_PIXEL])) is not None:
        column, said = _PIXEL, sizes[:, 0]
    elif (sizes := star_tables.of_rows(path, tables, table, [_DETECTOR, _MAGNIFICATION])) is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            column, said = f"{_DETECTOR} and {_MAGNIFICATION}", sizes[:, 0] * _MICROMETRE / sizes[:, 1]
    else:
        return
    if (i := _first_other(said, names, conversion)) is not None:
        known = _known(names, conversion)
        raise InputError(
            f"{path} has pixels of {said[i]:g} A ({column}), but the voxels of tomogram '{names[i]}' are {known[i]:g} A; give the file's size, "
            "or the tomogram with that size; if the column is wrong, remove it"
        )


def _known(names: np.ndarray, conversion: Conversion) -> np.ndarray:
    return conversion.per_row(names, lambda name: conversion.known_spacing(name) or math.nan)


def _first_other(said: np.ndarray, names: np.ndarray, conversion: Conversion) -> int | None:
    """The first row whose pixel size is another than its tomogram's voxel size, as far as both are known."""
    with np.errstate(invalid="ignore"):
        bad = (said > 0) & (np.abs(said / _known(names, conversion) - 1) > star_tables.AGREES)
    return int(np.argmax(bad)) if bad.any() else None


def _tell_other_pixels(path: Path, tables: Sequence[StarTable], table: StarTable, names: np.ndarray, conversion: Conversion) -> None:
    """Compare pixel sizes that may be another image's than the picked tomogram's; those of optics if they are all the same."""
    for column in _MAY_BE_OTHERS:
        holder = next((block for block in (table, *tables) if column in block and len(block)), None)
        if holder is None or (column == _DETECTOR and _MAGNIFICATION in holder):
            continue
        said = star_tables.numbers(path, holder, [column])[:, 0]
        if holder is not table:
            if len(set(said.tolist())) > 1:
                continue
            said = np.full(len(table), said[0])
        if (i := _first_other(said, names, conversion)) is not None:
            hint = "--format star-relion4 reads such files" if column == _TILT_SERIES else "if they are pixels of that size, give it"
            conversion.progress.warn(
                f"{path} has {column} {said[i]:g} A, the voxels of tomogram '{names[i]}' are {_known(names, conversion)[i]:g} A; its coordinates are taken as "
                f"voxels of that tomogram: {hint}"
            )


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the block `particles`.

    Raises
    ------
    InputError
        If the voxel size is needed and not given.
    """
    found = conversion.written_in(particles, "voxel", _WHY)
    columns = star_tables.coordinate_columns(COORDINATES, found.position_zyx)
    star_tables.write_particles(path, {star_tables.TOMOGRAM: found.tomogram, **columns}, found)


FORMAT = TableFormat(read=read, write=write, ending=".star", one_species=True)
