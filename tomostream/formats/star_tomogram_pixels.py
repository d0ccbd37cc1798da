"""STAR files in pixels of the tomogram: `rlnCoordinateX/Y/Z` as TomoTwin, pytom-match-pick, Warp and others write them.

Convention: voxel index of the tomogram that was picked.  The same columns mean unbinned pixels in RELION 4 (`star_relion4`), a factor of
4 to 10, which no column shows: hence the two names.  The tomogram is `rlnTomoName`, or the file in `rlnMicrographName`, or else the
STAR file's own name; the score is `rlnAutopickFigureOfMerit` or pytom's `rlnLCCmax`.  Read as voxels; the voxel size is asked for where
angstrom are needed.  Shifts that refinement found are subtracted: `rlnOriginX/Y/ZAngst`, or in pixels `rlnOriginX/Y/Z`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats import star_tables
from tomostream.formats.conversion import Conversion
from tomostream.formats.star_file import StarTable, read_star
from tomostream.formats.star_tables import COORDINATES
from tomostream.formats.table_format import TableFormat
from tomostream.particles import Particles

_WHY = "star-tomogram-pixels"
_PIXEL, _DETECTOR, _MAGNIFICATION = "rlnPixelSize", "rlnDetectorPixelSize", "rlnMagnification"
_MICROMETRE = 1e4  # angstrom


def read(path: Path, conversion: Conversion) -> Particles:
    """Read the block that has the columns as voxels.

    Raises
    ------
    InputError
        If it is no such file, it has refined shifts in angstrom and the voxel size is not known, or its pixel size contradicts.
    """
    table = star_tables.particle_table(path, read_star(path), COORDINATES, star_tables.CENTERED_HINT)
    names = star_tables.tomograms(path, table, conversion)
    positions = star_tables.positions(path, table) - star_tables.refined_shifts_pix(path, table)
    shifts = star_tables.refined_shifts_ang(path, table)
    if shifts.any():
        positions -= shifts / conversion.row_spacings(names, f"{_WHY} with shifts in angstrom")[:, None]
    _refuse_other_pixels(path, table, names, conversion)
    return Particles.build(
        positions, unit="voxel", tomogram=names, score=star_tables.scores(path, table), rotation=star_tables.rotations(path, table)
    )


def _refuse_other_pixels(path: Path, table: StarTable, names: np.ndarray, conversion: Conversion) -> None:
    """Compare the pixel size in the file, if there is one, with the known voxel size."""
    if _PIXEL in table:
        column, said = _PIXEL, star_tables.numbers(path, table, [_PIXEL])[:, 0]
    elif _DETECTOR in table and _MAGNIFICATION in table:
        detector, magnification = star_tables.numbers(path, table, [_DETECTOR, _MAGNIFICATION]).T
        with np.errstate(divide="ignore", invalid="ignore"):
            column, said = f"{_DETECTOR} and {_MAGNIFICATION}", detector * _MICROMETRE / magnification
    else:
        return
    known = conversion.per_row(names, lambda name: conversion.known_spacing(name) or math.nan)
    with np.errstate(invalid="ignore"):
        bad = (said > 0) & (np.abs(said / known - 1) > star_tables.AGREES)
    if bad.any():
        i = int(np.argmax(bad))
        raise InputError(
            f"{path} has pixels of {said[i]:g} A ({column}), but the voxels of tomogram '{names[i]}' are {known[i]:g} A; give the file's size, "
            "or the tomogram with that size; if the column is wrong, remove it"
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
