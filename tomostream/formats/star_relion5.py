"""RELION 5 STAR files of particles: `rlnTomoName`, `rlnCenteredCoordinateX/Y/ZAngst`, score as `rlnAutopickFigureOfMerit`.

Convention: angstrom from the tomogram's centre, which is size / 2 voxels along each axis (RELION's own picker takes size / 2 - 1 unbinned
pixels, so its coordinates lie up to one voxel beside).  So both directions need every tomogram's shape and voxel spacing.  Shifts that
refinement found (`rlnOriginX/Y/ZAngst`) are subtracted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomostream.formats import star_tables
from tomostream.formats.registry import Conversion
from tomostream.particles import Particles

COORDINATES = ("rlnCenteredCoordinateZAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateXAngst")
_WHY = "star-relion5 (coordinates from the tomogram's centre)"
_HINT = "; rlnCoordinateX/Y/Z are pixels, of --format star-relion4 (unbinned) or star-tomogram-pixels"


def _centre_ang(tomogram: str, conversion: Conversion) -> np.ndarray:
    return np.asarray(conversion.shape_of(tomogram, _WHY)) / 2 * conversion.spacing_of(tomogram, _WHY)


def read(path: Path, conversion: Conversion) -> Particles:
    """Read the block `particles` (or the only block).

    Raises
    ------
    InputError
        If it is no STAR file with these columns, or a shape or spacing is not given.
    """
    tables = star_tables.read_blocks(path)
    table = star_tables.particle_table(path, tables, (star_tables.TOMOGRAM, *COORDINATES), _HINT)
    names = star_tables.tomograms(path, table, conversion)
    positions = star_tables.numbers(path, table, COORDINATES) - star_tables.refined_shifts_ang(path, table)
    for name in dict.fromkeys(names.tolist()):
        positions[names == name] += _centre_ang(name, conversion)
    return Particles.build(positions, unit="angstrom", tomogram=names, score=star_tables.scores(path, table))


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the block `particles`.

    Raises
    ------
    InputError
        If a shape or spacing is not given.
    """
    found = conversion.to_unit(particles, "angstrom", _WHY)
    positions = found.position_zyx.copy()
    for name in found.tomograms():
        positions[found.tomogram == name] -= _centre_ang(name, conversion)
    columns = star_tables.coordinate_columns(COORDINATES, positions)
    star_tables.write_particles(path, {star_tables.TOMOGRAM: found.tomogram, **columns}, found.score)
