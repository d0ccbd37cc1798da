"""What the STAR formats share: find the table of particles, read its numbers exactly, name tomograms, write.

STAR files of particles know no species: one file holds one.  Numbers are written as the shortest text that reads back exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.checks import row_tomograms
from tomostream.formats.conversion import Conversion, file_tomogram
from tomostream.formats.positions import check_fractions
from tomostream.formats.star_file import StarTable, write_star
from tomostream.orientations import angles, matrices, or_identity
from tomostream.particle_columns import number
from tomostream.particles import Particles
from tomostream.store.naming import RECONSTRUCTED, listed_name

TOMOGRAM, MICROGRAPH = "rlnTomoName", "rlnMicrographName"
SCORE = "rlnAutopickFigureOfMerit"
SCORES = (SCORE, "rlnLCCmax")  # the second is pytom-match-pick's
COORDINATES = ("rlnCoordinateZ", "rlnCoordinateY", "rlnCoordinateX")
CENTERED_HINT = "; coordinates in angstrom from the centre are those of --format star-relion5"
MISSING = "<NA>"  # crYOLO's word for no value
PARTICLES = "particles"  # what RELION calls the block
ORIGINS_ANG = ("rlnOriginZAngst", "rlnOriginYAngst", "rlnOriginXAngst")
ORIGINS_PIX = ("rlnOriginZ", "rlnOriginY", "rlnOriginX")  # RELION up to 3.0, Warp, M
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_SUBTOMOGRAM_ANGLES = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
_GROUP = "rlnOpticsGroup"
AGREES = 1e-3  # relative difference of two sizes of one pixel that rounding explains


def particle_table(path: Path, tables: Sequence[StarTable], columns: Sequence[str], hint: str = "") -> StarTable:
    """Choose the block with the columns; of several, the one named `particles`.

    Raises
    ------
    InputError
        If there is none, or there are several; `hint` says what else the file may be.
    """
    found = [table for table in tables if all(column in table for column in columns)]
    named = [table for table in found if table.block == PARTICLES]
    if len(named or found) == 1:
        return (named or found)[0]
    if found:
        names = ", ".join(f"data_{table.block}" for table in found)
        raise InputError(f"{path} has several tables of particles ({names}); keep one of them in the file")
    if not tables:
        raise InputError(f"{path} holds no table of particles; give a particles STAR file")
    nearest = next((table for table in tables if table.block == PARTICLES), None) or max(
        tables, key=lambda table: sum(c in table for c in columns)
    )
    missing = [column for column in columns if column not in nearest]
    raise InputError(f"{path} lacks {', '.join(missing)}{hint}; its columns are {', '.join(nearest.columns)}")


def numbers(path: Path, table: StarTable, columns: Sequence[str], *, may_lack: bool = False) -> np.ndarray:
    """Return columns as float64 (rows, columns), parsed exactly; with `may_lack`, `<NA>`, `nan` and similar mean a missing value.

    Raises
    ------
    InputError
        If a value is no number, or not finite.
    """
    found = np.empty((len(table), len(columns)))
    for j, column in enumerate(columns):
        for i, value in enumerate(table[column]):
            try:
                found[i, j] = number(value)
            except ValueError:
                if listed_name(value):
                    raise InputError(f"{path}, particle {i + 1}: {column} must be a number, found '{value}'") from None
                found[i, j] = math.nan
    if not may_lack and not np.isfinite(found).all():
        i, j = np.argwhere(~np.isfinite(found))[0]
        raise InputError(f"{path}, particle {i + 1}: {columns[j]} must be finite, found {table[columns[j]][i]}")
    return found


def of_rows(path: Path, tables: Sequence[StarTable], table: StarTable, columns: Sequence[str]) -> np.ndarray | None:
    """Return what the file says of each row, (rows, columns): in the row itself, or in its group of optics; None where no block says it.

    Raises
    ------
    InputError
        If a value is no finite number, or there are several and none is assigned to a row.
    """
    holder = next((block for block in (table, *tables) if all(column in block for column in columns) and len(block)), None)
    if holder is None:
        return None
    said = numbers(path, holder, columns)
    if holder is table:
        return said
    if len(np.unique(said, axis=0)) == 1:
        return np.repeat(said[:1], len(table), axis=0)
    what = " and ".join(columns)
    if _GROUP not in table or _GROUP not in holder:
        listed = ", ".join(f"{value:g}" for value in np.unique(said))
        raise InputError(f"{path}: {what} has several values ({listed}), and no {_GROUP} assigns them; split or correct the file")
    of_group = dict(zip(holder[_GROUP], said.tolist(), strict=True))
    if unknown := [group for group in dict.fromkeys(table[_GROUP]) if group not in of_group]:
        raise InputError(f"{path}: {_GROUP} {unknown[0]} of the particles is not in its block '{holder.block}'; correct the file")
    return np.array([of_group[group] for group in table[_GROUP]]).reshape(-1, len(columns))


def positions(path: Path, table: StarTable) -> np.ndarray:
    """Return the coordinates (z, y, x; pixels) as stored in the file.

    Raises
    ------
    InputError
        If one is no finite number, or all are fractions of the volume.
    """
    found = numbers(path, table, COORDINATES)
    check_fractions(found, str(path))
    return found


def tomograms(path: Path, table: StarTable, conversion: Conversion) -> np.ndarray:
    """Name each row's tomogram: `rlnTomoName`, or the file in `rlnMicrographName`, or the name given, or the file's.

    Raises
    ------
    InputError
        If a row has no name (`nan`, `None` and their like count as none).
    """
    column = next((name for name in (TOMOGRAM, MICROGRAPH) if name in table), None)
    if column is None:
        return np.full(len(table), file_tomogram(path, conversion), dtype=object)
    values = table[column]
    if unnamed := [i for i, value in enumerate(values, 1) if not listed_name(value)]:
        raise InputError(f"{path}, particle {unnamed[0]}: {column} must be a name, found '{values[unnamed[0] - 1]}'")
    result = np.empty(len(values), dtype=object)
    result[:] = row_tomograms(values, conversion, str(path), is_file=column == MICROGRAPH)
    return result


def scores(path: Path, table: StarTable) -> np.ndarray:
    """Return the first known column of scores, else NaN."""
    column = next((name for name in SCORES if name in table), None)
    return np.full(len(table), np.nan) if column is None else numbers(path, table, [column], may_lack=True)[:, 0]


def rotations(path: Path, table: StarTable) -> np.ndarray | None:
    """Return the particles' rotations (n, 3, 3): of the subtomogram, then within it; None where the table has no angles.

    Raises
    ------
    InputError
        If only some of three angles are there, or one is no number.
    """
    found = None
    for columns in (_SUBTOMOGRAM_ANGLES, ANGLES):
        present = [name for name in columns if name in table]
        if not present:
            continue
        if len(present) < len(columns):
            raise InputError(f"{path} has {', '.join(present)}; orientations need all of {', '.join(columns)}")
        inner = matrices(numbers(path, table, columns), "relion")
        found = inner if found is None else found @ inner
    return found


def refined_shifts_ang(path: Path, table: StarTable) -> np.ndarray:
    """Return the shifts (z, y, x; angstrom) that refinement found, to be subtracted from the coordinates; zero for an axis without.

    Raises
    ------
    InputError
        If they count along the axes of turned subtomograms, or there are shifts in pixels besides.
    """
    found = _shifts(path, table, ORIGINS_ANG)
    if found.any() and _shifts(path, table, ORIGINS_PIX).any():
        raise InputError(
            f"{path} has shifts in angstrom ({ORIGINS_ANG[2]}, ...) and in pixels ({ORIGINS_PIX[2]}, ...); remove those that don't apply"
        )
    return found


def refined_shifts_pix(path: Path, table: StarTable) -> np.ndarray:
    """Return the shifts (z, y, x; pixels) of older software, to be subtracted; zero for an axis without.

    Raises
    ------
    InputError
        As `refined_shifts_ang`.
    """
    return _shifts(path, table, ORIGINS_PIX)


def refuse_pixel_shifts(path: Path, table: StarTable, format_name: str) -> None:
    """Refuse shifts in pixels of unknown size.

    Raises
    ------
    InputError
        If there are any but zeros.
    """
    if refined_shifts_pix(path, table).any():
        raise InputError(
            f"{path} has shifts in pixels ({ORIGINS_PIX[2]}, ...), but {format_name} does not give the pixel size; let RELION re-centre the particles, "
            "or convert them to rlnOriginXAngst, ... (pixels times their size)"
        )


def _shifts(path: Path, table: StarTable, columns: Sequence[str]) -> np.ndarray:
    present = [axis for axis, name in enumerate(columns) if name in table]
    found = np.zeros((len(table), 3))
    found[:, present] = numbers(path, table, [columns[axis] for axis in present])
    angles = [name for name in _SUBTOMOGRAM_ANGLES if name in table]
    if found.any() and angles and numbers(path, table, angles).any():
        raise InputError(
            f"{path}: its shifts {columns[2]}, ... are along the axes of rotated subtomograms ({', '.join(angles)}), "
            "which is not supported; let RELION apply them (re-centre the particles) first"
        )
    return found


def relion_names(particles: Particles, conversion: Conversion) -> np.ndarray:
    """Name the rows' tomograms as RELION 5 does: its file `rec_TS_01.mrc` is the tomogram `TS_01`; report changed names.

    Raises
    ------
    InputError
        If two tomograms would have one name.
    """
    names = particles.tomograms()
    new = {name: name.removeprefix(RECONSTRUCTED) or name for name in names}
    if len(set(new.values())) < len(names):
        twice = next(name for name in names if name.startswith(RECONSTRUCTED) and new[name] in names)
        raise InputError(f"RELION names tomogram '{twice}' '{new[twice]}', but another tomogram already has that name; rename one of them")
    changed = [f"'{name}' is '{new[name]}'" for name in names if new[name] != name]
    if changed:
        conversion.progress.say(f"renamed for RELION: {', '.join(changed[:4])}{' ...' if len(changed) > 4 else ''}")
    return particles.renamed(new).tomogram


def write_particles(path: Path, columns: Mapping[str, np.ndarray], particles: Particles) -> None:
    """Write one block `particles`: the columns, and angles and scores if there are any (0 where some particles have no angles)."""
    turned = {}
    if particles.rotation is not None:
        turned = dict(zip(ANGLES, angles(or_identity(particles.rotation, len(particles)), "relion").T + 0.0, strict=True))
    scored = {} if np.isnan(particles.score).all() else {SCORE: particles.score}
    write_star(path, {PARTICLES: {**columns, **turned, **scored}}, missing="nan")


def coordinate_columns(names: Sequence[str], position_zyx: np.ndarray) -> dict[str, np.ndarray]:
    """Name the columns of positions; `names` are in the order z, y, x, the columns in the order x, y, z."""
    return {names[axis]: position_zyx[:, axis] for axis in (2, 1, 0)}
