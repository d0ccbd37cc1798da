"""STAR files in pixels of the tomogram: `rlnCoordinateX/Y/Z` as TomoTwin, pytom-match-pick and others write them.

Convention: voxel index of the tomogram that was picked.  The same columns mean unbinned pixels in RELION 4 (`star_relion4`), a factor of
4 to 10, which no column tells: hence the two names.  The tomogram is `rlnTomoName`, or the file in `rlnMicrographName`, or else the
STAR file's own name; the score is `rlnAutopickFigureOfMerit` or pytom's `rlnLCCmax`.  Read as voxels; the voxel size is asked for where
angstrom are needed.
"""

from __future__ import annotations

from pathlib import Path

from tomostream.formats import star_tables
from tomostream.formats.registry import Conversion
from tomostream.formats.star_tables import COORDINATES
from tomostream.particles import Particles

_WHY = "star-tomogram-pixels"


def read(path: Path, conversion: Conversion) -> Particles:
    """Read the block `particles` (or the only block) as voxels.

    Raises
    ------
    InputError
        If it is no such file, or it has refined shifts in angstrom and the voxel size is not known.
    """
    table = star_tables.particle_table(path, star_tables.read_blocks(path), COORDINATES, star_tables.CENTERED_HINT)
    names = star_tables.tomograms(path, table, conversion)
    positions = star_tables.numbers(path, table, COORDINATES)
    shifts = star_tables.refined_shifts_ang(path, table)
    for name in dict.fromkeys(names.tolist()) if shifts.any() else ():
        positions[names == name] -= shifts[names == name] / conversion.spacing_of(name, f"{_WHY} with shifts in angstrom")
    return Particles.build(positions, unit="voxel", tomogram=names, score=star_tables.scores(path, table))


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the block `particles`.

    Raises
    ------
    InputError
        If the voxel size is needed and not given.
    """
    found = conversion.to_unit(particles, "voxel", _WHY)
    columns = star_tables.coordinate_columns(COORDINATES, found.position_zyx)
    star_tables.write_particles(path, {star_tables.TOMOGRAM: found.tomogram, **columns}, found.score)
