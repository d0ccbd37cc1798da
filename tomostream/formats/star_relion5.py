"""RELION 5 STAR files of particles: `rlnTomoName`, `rlnCenteredCoordinateX/Y/ZAngst`, score as `rlnAutopickFigureOfMerit`.

Convention: angstrom from the tomogram's centre, which is size / 2 voxels along each axis (RELION's own picker takes size / 2 - 1 unbinned
pixels, so its coordinates lie up to one voxel beside).  So both directions need every tomogram's shape and voxel spacing.  Shifts that
refinement found (`rlnOriginX/Y/ZAngst`) are subtracted.  Names are written as RELION's, see `star_tables.relion_names`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats import relion_tomograms, star_tables
from tomostream.formats.conversion import Conversion
from tomostream.formats.star_both_coordinates import CENTRED as COORDINATES
from tomostream.formats.star_both_coordinates import check_both
from tomostream.formats.star_file import read_star
from tomostream.formats.table_format import TableFormat
from tomostream.particles import Particles
from tomostream.remote.places import Place

_HEAD_BYTES = 65536  # in which a STAR file names its columns
_WHY = "star-relion5 (coordinates from the tomogram's centre)"
_HINT = "; rlnCoordinateX/Y/Z are pixels, of --format star-relion4 (unbinned) or star-tomogram-pixels"


def is_ours(path: Place) -> bool:
    """Whether a local STAR file has the coordinates that no other format has.

    Raises
    ------
    InputError
        If it can't be read.
    """
    if not isinstance(path, Path) or path.suffix.lower() != ".star" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return f"_{COORDINATES[-1]}".encode() in file.read(_HEAD_BYTES)
    except OSError as error:
        raise InputError(f"table {path} can't be read: {error.strerror}") from None


def _centres_ang(names: np.ndarray, conversion: Conversion) -> np.ndarray:
    """Return the centre of each row's tomogram, (n, 3)."""
    centre = {
        name: np.asarray(conversion.shape_of(name, _WHY)) / 2 * conversion.spacing_of(name, _WHY) for name in dict.fromkeys(names.tolist())
    }
    return np.array([centre[name] for name in names.tolist()]).reshape(-1, 3)


def read(path: Path, conversion: Conversion) -> Particles:
    """Read the block that has the columns.

    Raises
    ------
    InputError
        If it is no STAR file with these columns, a shape or spacing is not given, or coordinates in pixels contradict.
    """
    tables = read_star(path)
    table = star_tables.particle_table(path, tables, (star_tables.TOMOGRAM, *COORDINATES), _HINT)
    names = star_tables.tomograms(path, table, conversion)
    star_tables.refuse_pixel_shifts(path, table, "star-relion5")
    positions = star_tables.numbers(path, table, COORDINATES) - star_tables.refined_shifts_ang(path, table)
    positions = conversion.tidy(positions + _centres_ang(names, conversion))
    check_both(path, tables, table, names, conversion, pixels_ang=None)
    return Particles.build(
        positions, unit="angstrom", tomogram=names, score=star_tables.scores(path, table), rotation=star_tables.rotations(path, table)
    )


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the block `particles`.

    Raises
    ------
    InputError
        If a shape or spacing is not given.
    """
    found = conversion.to_unit(particles, "angstrom", _WHY)
    positions = conversion.tidy(found.position_zyx - _centres_ang(found.tomogram, conversion))
    columns = star_tables.coordinate_columns(COORDINATES, positions)
    star_tables.write_particles(path, {star_tables.TOMOGRAM: star_tables.relion_names(found, conversion), **columns}, found)


FORMAT = TableFormat(
    read=read, write=write, ending=".star", one_species=True, recognises=is_ours, listed_volumes=relion_tomograms.listed_tomograms
)
