"""RELION 5 STAR files of particles: `rlnTomoName`, `rlnCenteredCoordinateX/Y/ZAngst`, score as `rlnAutopickFigureOfMerit`.

Convention: angstrom from the tomogram's centre, which is size / 2 voxels along each axis (RELION's own picker takes size / 2 - 1 unbinned
pixels, so its coordinates lie up to one voxel beside).  So both directions need every tomogram's shape and voxel spacing.  STAR files of
particles know no species: one file holds one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import starfile

from tomostream.errors import InputError
from tomostream.formats.registry import Conversion
from tomostream.particles import Particles

_COORDINATES = ("rlnCenteredCoordinateZAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateXAngst")
_NAME = "rlnTomoName"
_SCORE = "rlnAutopickFigureOfMerit"
_WHY = "star-relion5 (coordinates from the tomogram's centre)"


def _centre_ang(tomogram: str, conversion: Conversion) -> np.ndarray:
    return np.asarray(conversion.shape_of(tomogram, _WHY)) / 2 * conversion.spacing_of(tomogram, _WHY)


def read(path: Path, conversion: Conversion) -> Particles:
    """Read the block `particles` (or the only block).

    Raises
    ------
    InputError
        If it is no STAR file with these columns, or a shape or spacing is not given.
    """
    try:
        blocks = starfile.read(path, always_dict=True)
    except Exception as error:  # starfile lets its parser's errors through
        raise InputError(f"{path} is no STAR file: {error}") from None
    tables = {name: block for name, block in blocks.items() if isinstance(block, pd.DataFrame)}
    table = tables.get("particles", next(iter(tables.values()), None))
    if table is None:
        raise InputError(f"{path} holds no table of particles (blocks: {', '.join(map(str, blocks)) or 'none'})")
    missing = [column for column in (_NAME, *_COORDINATES) if column not in table]
    if missing:
        hint = "; rlnCoordinateX/Y/Z are other software's or RELION 4's, in pixels" if "rlnCoordinateX" in table else ""
        raise InputError(f"{path} lacks {', '.join(missing)}{hint}; its columns are {', '.join(table.columns)}")
    names = table[_NAME].astype(str).to_numpy(dtype=object)
    try:
        positions = table[list(_COORDINATES)].to_numpy(np.float64)
        scores = table[_SCORE].to_numpy(np.float64) if _SCORE in table else np.full(len(table), np.nan)
    except ValueError as error:
        raise InputError(f"{path}: a coordinate is no number: {error}") from None
    for name in dict.fromkeys(names.tolist()):
        positions[names == name] += _centre_ang(name, conversion)
    return Particles.build(positions, unit="angstrom", tomogram=names, score=scores)


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write the block `particles`.

    Raises
    ------
    InputError
        If there are several species, or a shape or spacing is not given.
    """
    if len(particles.species_names()) > 1:
        raise InputError(f"a STAR file holds one species, these are {', '.join(particles.species_names())}; choose one with --species")
    found = conversion.to_unit(particles, "angstrom", _WHY)
    positions = found.position_zyx.copy()
    for name in found.tomograms():
        positions[found.tomogram == name] -= _centre_ang(name, conversion)
    columns: dict[str, np.ndarray] = {_NAME: found.tomogram}
    columns |= {column: positions[:, axis] for axis, column in reversed(list(enumerate(_COORDINATES)))}
    if not np.isnan(found.score).all():
        columns[_SCORE] = found.score
    temporary = path.with_name(f".{path.name}.tmp.star")
    starfile.write({"particles": pd.DataFrame(columns)}, temporary, overwrite=True, float_format="%.6f")
    temporary.replace(path)
