"""RELION 4 STAR files of particles: `rlnTomoName`, `rlnCoordinateX/Y/Z` in *unbinned tilt-series* pixels.

Convention: coordinate = angstrom / pixel size of the tilt series, from the first voxel (voxel i of a tomogram binned by b is at i * b;
the half-pixel shifts of different ways to bin are not known and not applied).  The pixel size comes from the user, from the binning, or
from the file itself (`rlnTomoTiltSeriesPixelSize`, in its particles or its block `optics`, there for each optics group).  Shifts that
refinement found (`rlnOriginX/Y/ZAngst`) are subtracted.  The same columns in pixels of the tomogram are `star_tomogram_pixels`.  Names are
written as RELION's, see `star_tables.relion_names`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats import star_tables
from tomostream.formats.conversion import Conversion
from tomostream.formats.format_option import FormatOption, positive_number
from tomostream.formats.star_both_coordinates import check_both
from tomostream.formats.star_file import StarTable, read_star
from tomostream.formats.star_tables import COORDINATES
from tomostream.formats.table_format import TableFormat
from tomostream.particles import Particles

UNBINNED_PIXEL_SIZE = FormatOption(
    name="unbinned_pixel_size", metavar="ANGSTROM", help="Pixel size of the tilt series.", parse=positive_number
)
BINNING = FormatOption(name="binning", metavar="N", help="Binning of the tomograms, instead of that pixel size.", parse=positive_number)
_WHY = "star-relion4 (unbinned pixels)"
_IMAGE_PIXEL = "rlnPixelSize"
_PIXEL = "rlnTomoTiltSeriesPixelSize"


def read(path: Path, conversion: Conversion) -> Particles:
    """Read the block that has the columns as angstrom.

    Raises
    ------
    InputError
        If it is no such file, or the pixel size of the tilt series is not known or is contradicted by the file, or centred
        coordinates contradict.
    """
    tables = read_star(path)
    table = star_tables.particle_table(path, tables, COORDINATES, star_tables.CENTERED_HINT)
    names = star_tables.tomograms(path, table, conversion)
    positions = star_tables.positions(path, table)
    star_tables.refuse_pixel_shifts(path, table, "star-relion4")
    pixels = _pixels_ang(path, _pixels_said(path, tables, table), names, conversion)
    _tell_other_pixels(path, tables, table, pixels, conversion)
    check_both(path, tables, table, names, conversion, pixels_ang=pixels)
    positions *= pixels[:, None]
    positions -= star_tables.refined_shifts_ang(path, table)
    return Particles.build(
        positions, unit="angstrom", tomogram=names, score=star_tables.scores(path, table), rotation=star_tables.rotations(path, table)
    )


def _pixels_said(path: Path, tables: Sequence[StarTable], table: StarTable) -> np.ndarray | None:
    """Return the pixel size of each row as given in the file, if there is any."""
    sizes = star_tables.of_rows(path, tables, table, [_PIXEL])
    if sizes is not None and not (sizes > 0).all():
        raise InputError(f"{path}: {_PIXEL} must be above zero, found {sizes[~(sizes > 0)][0]:g} (angstrom); correct the file")
    return None if sizes is None else sizes[:, 0]


def _pixels_ang(path: Path, said: np.ndarray | None, names: np.ndarray, conversion: Conversion) -> np.ndarray:
    if said is None:
        return conversion.per_row(names, lambda name: _unbinned_pixel_ang(name, conversion))
    if any(conversion.given(option) is not None for option in (UNBINNED_PIXEL_SIZE, BINNING)):
        given = conversion.per_row(names, lambda name: _unbinned_pixel_ang(name, conversion))
        if (bad := np.abs(given / said - 1) > star_tables.AGREES).any():
            i = int(np.argmax(bad))
            raise InputError(
                f"{path} has pixels of {said[i]:g} A ({_PIXEL}), but you gave {given[i]:g} A; leave your value out, or correct it"
            )
    return said


def _tell_other_pixels(path: Path, tables: Sequence[StarTable], table: StarTable, pixels: np.ndarray, conversion: Conversion) -> None:
    """Compare the pixels with those of the particles' images, which differ if the images are binned."""
    if (sizes := star_tables.of_rows(path, tables, table, [_IMAGE_PIXEL])) is None:
        return
    said = sizes[:, 0]
    bad = (said > 0) & (np.abs(said / pixels - 1) > star_tables.AGREES)
    if bad.any():
        i = int(np.argmax(bad))
        conversion.progress.warn(
            f"{path} has {_IMAGE_PIXEL} {said[i]:g} A, its coordinates are taken as pixels of {pixels[i]:g} A; right if its images are binned"
        )


def _unbinned_pixel_ang(tomogram: str, conversion: Conversion) -> float:
    pixel, binning = conversion.given(UNBINNED_PIXEL_SIZE), conversion.given(BINNING)
    if pixel is not None and binning is not None:
        raise InputError("give --unbinned-pixel-size or --binning, not both")
    if pixel is not None:
        return pixel
    if binning is not None:
        return conversion.spacing_of(tomogram, f"{_WHY} with --binning") / binning
    raise InputError(f"{_WHY} needs the pixel size of the tilt series of '{tomogram}'; give --unbinned-pixel-size ANGSTROM or --binning N")


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the block `particles`.

    Raises
    ------
    InputError
        If the pixel size of the tilt series is not given.
    """
    pixels = conversion.per_row(particles.tomogram, lambda name: _unbinned_pixel_ang(name, conversion))
    found = conversion.to_unit(particles, "angstrom", _WHY)
    columns = star_tables.coordinate_columns(COORDINATES, conversion.tidy(found.position_zyx / pixels[:, None]))
    star_tables.write_particles(path, {star_tables.TOMOGRAM: star_tables.relion_names(found, conversion), **columns}, found)


FORMAT = TableFormat(read=read, write=write, ending=".star", one_species=True, options=(UNBINNED_PIXEL_SIZE, BINNING))
