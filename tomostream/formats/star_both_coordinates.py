"""A STAR file with `rlnCenteredCoordinate?Angst` and `rlnCoordinate?`: do the two say the same positions?

RELION 5 reads the centred ones and passes over the others; files that went through several programs have both, and only one may have been
kept up to date.  A format reads one of them.  The other is compared where all that this needs is known, and its being there is told where it is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats import star_tables
from tomostream.formats.conversion import Conversion
from tomostream.formats.star_file import StarTable

CENTRED = ("rlnCenteredCoordinateZAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateXAngst")
_SIZES = ("rlnTomoTiltSeriesPixelSize", "rlnPixelSize", "rlnImagePixelSize")  # of what the coordinates in pixels may count
_AGREE_VOXELS = 2.0  # half a voxel of each program's centre, and one by which a binned tomogram's size is rounded
_CENTRED_WORDS = "rlnCenteredCoordinateXAngst, ... (angstrom from the centre)"
_PIXEL_WORDS = "rlnCoordinateX, ... (pixels from the corner)"


def check_both(
    path: Path, tables: Sequence[StarTable], table: StarTable, names: np.ndarray, conversion: Conversion, *, pixels_ang: np.ndarray | None
) -> None:
    """Compare the two kinds of coordinates, if the table has both; tell which is used where they can't be compared.

    Parameters
    ----------
    path, tables, table
        The file, its blocks, and the block that is read.
    names
        The tomogram of each row.
    conversion
        Shapes and spacings, as far as they are known.
    pixels_ang
        Size of a pixel of `rlnCoordinate?` for each row (angstrom; NaN: not known), where these are read; None where the centred ones are.

    Raises
    ------
    InputError
        If they contradict each other.
    """
    if not all(column in table for column in (*CENTRED, *star_tables.COORDINATES)) or not len(table):
        return
    used = _CENTRED_WORDS if pixels_ang is None else _PIXEL_WORDS
    spacings = conversion.per_row(names, lambda name: conversion.known_spacing(name) or math.nan)
    centres = np.array([conversion.known_shape(name) or (math.nan,) * 3 for name in names.tolist()]) / 2 * spacings[:, None]
    if not np.isfinite(centres).all():
        _tell(path, conversion, used, "they can't be compared, because the shape or the voxel size of a tomogram is not given")
        return
    centred = star_tables.numbers(path, table, CENTRED) + centres
    pixels = star_tables.numbers(path, table, star_tables.COORDINATES)
    said = [sizes[:, 0] for column in _SIZES if (sizes := star_tables.of_rows(path, tables, table, [column])) is not None]
    candidates = [*said, spacings] if pixels_ang is None else [pixels_ang]
    bad = [np.abs(pixels * size[:, None] - centred).max(axis=1) > _AGREE_VOXELS * spacings for size in candidates]
    if not all(one.any() for one in bad):
        return
    if pixels_ang is None and not said:
        _tell(path, conversion, used, "they can't be compared, because the file does not say the size of its pixels")
        return
    i = int(np.argmax(bad[0]))
    raise InputError(
        f"{path}, particle {i + 1}: {_CENTRED_WORDS} put it at x {_xyz(centred[i])} angstrom from the corner of tomogram '{names[i]}', but {_PIXEL_WORDS} "
        f"at x {_xyz(pixels[i] * candidates[0][i])}, with pixels of {candidates[0][i]:g} A; RELION 5 reads the former: remove the columns that don't apply, "
        "or correct the tomogram's shape or voxel size"
    )


def _tell(path: Path, conversion: Conversion, used: str, why: str) -> None:
    other = _PIXEL_WORDS if used == _CENTRED_WORDS else _CENTRED_WORDS
    note = "" if used == _CENTRED_WORDS else "; RELION 5 itself reads those"
    conversion.progress.warn(f"{path} has both {_CENTRED_WORDS} and {_PIXEL_WORDS}; {why}: {used} are used, not {other}{note}")


def _xyz(position_zyx: np.ndarray) -> str:
    z, y, x = position_zyx.tolist()
    return f"{x:.1f}, y {y:.1f}, z {z:.1f}"
