"""RELION 4 STAR files of particles: `rlnTomoName`, `rlnCoordinateX/Y/Z` in *unbinned tilt-series* pixels.

Convention: coordinate = angstrom / pixel size of the tilt series, from the first voxel (voxel i of a tomogram binned by b is at i * b;
the half-pixel shifts of different ways to bin are not known and not applied).  The pixel size comes from the user, from the binning, or
from the file itself (`rlnTomoTiltSeriesPixelSize`, in its particles or its block `optics`).  Shifts that refinement found
(`rlnOriginX/Y/ZAngst`) are subtracted.  The same columns in pixels of the tomogram are `star_tomogram_pixels`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomostream.errors import InputError
from tomostream.formats import star_tables
from tomostream.formats.registry import Conversion
from tomostream.formats.star_tables import COORDINATES
from tomostream.particles import Particles

if TYPE_CHECKING:
    import pandas as pd

_WHY = "star-relion4 (unbinned pixels)"
_PIXEL = "rlnTomoTiltSeriesPixelSize"
_AGREES = 1e-3  # relative; files round their pixel sizes


def read(path: Path, conversion: Conversion) -> Particles:
    """Read the block `particles` (or the only block) as angstrom.

    Raises
    ------
    InputError
        If it is no such file, or the pixel size of the tilt series is not known or is contradicted by the file.
    """
    tables = star_tables.read_blocks(path)
    table = star_tables.particle_table(path, tables, COORDINATES, star_tables.CENTERED_HINT)
    names = star_tables.tomograms(path, table, conversion)
    positions = star_tables.numbers(path, table, COORDINATES)
    said = _pixel_said(path, tables, table)
    for name in dict.fromkeys(names.tolist()):
        positions[names == name] *= _pixel_ang(path, said, name, conversion)
    positions -= star_tables.refined_shifts_ang(path, table)
    return Particles.build(positions, unit="angstrom", tomogram=names, score=star_tables.scores(path, table))


def _pixel_said(path: Path, tables: dict[str, pd.DataFrame], table: pd.DataFrame) -> float | None:
    """The pixel size that the file itself tells, if it tells one."""
    holder = next((block for block in (table, tables.get("optics")) if block is not None and _PIXEL in block and len(block)), None)
    if holder is None:
        return None
    values = np.unique(star_tables.numbers(path, holder, [_PIXEL]))
    if len(values) > 1 or not values[0] > 0:
        sizes = ", ".join(f"{value:g}" for value in values)
        raise InputError(f"{path}: {_PIXEL} must be one size above zero, found {sizes} (angstrom); split or mend the file")
    return float(values[0])


def _pixel_ang(path: Path, said: float | None, name: str, conversion: Conversion) -> float:
    if said is None:
        return conversion.unbinned_pixel_of(name, _WHY)
    if conversion.knows_unbinned_pixel:
        given = conversion.unbinned_pixel_of(name, _WHY)
        if abs(given / said - 1) > _AGREES:
            raise InputError(f"{path} says that its pixels are {said:g} A ({_PIXEL}), you say {given:g} A; leave that out, or mend it")
    return said


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the block `particles`.

    Raises
    ------
    InputError
        If the pixel size of the tilt series is not given.
    """
    pixels = np.ones(len(particles))
    for name in particles.tomograms():
        pixels[particles.tomogram == name] = conversion.unbinned_pixel_of(name, _WHY)
    found = conversion.to_unit(particles, "angstrom", _WHY)
    columns = star_tables.coordinate_columns(COORDINATES, found.position_zyx / pixels[:, None])
    star_tables.write_particles(path, {star_tables.TOMOGRAM: found.tomogram, **columns}, found.score)
