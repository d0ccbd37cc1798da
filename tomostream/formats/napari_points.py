"""napari's points layers: CSV with the columns `index,axis-0,axis-1,axis-2`, in voxels, axis-0 being z.

Convention: the coordinates of the points' own layer; they are voxels if the layer's scale is 1, as it is when points are added to an
unscaled image (a layer of angstrom would be ours times the spacing: import does not guess).  One file holds one tomogram and species and
names neither: the tomogram is the file's stem unless it is named.  A column `score`, which napari's reader passes over, is written and read.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.registry import Conversion, file_tomogram
from tomostream.particles import Particles
from tomostream.remote.atomic_files import replacing

HEADER = ("index", "axis-0", "axis-1", "axis-2")


def read(path: Path, conversion: Conversion) -> Particles:
    """Read points as voxels.

    Raises
    ------
    InputError
        If it is no table of 3-D points, or a value is no number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} can't be read as CSV: {error}") from None
    axes = [name for name in (rows[0] if rows else dict.fromkeys(HEADER)) if str(name).startswith("axis-")]
    if axes != list(HEADER[1:]):
        raise InputError(
            f"{path}: a points layer of a tomogram has the columns {','.join(HEADER)}, found {','.join(axes) or 'no axis-...'}"
        )
    position, score = np.empty((len(rows), 3)), np.full(len(rows), np.nan)
    for i, row in enumerate(rows):
        try:
            position[i] = [float(row[axis]) for axis in axes]
            score[i] = float(row.get("score") or math.nan)
        except ValueError as error:
            raise InputError(f"{path}, point {i + 1}: {error}") from None
    if not np.isfinite(position).all():
        raise InputError(f"{path}: every position must be finite, point {np.argwhere(~np.isfinite(position))[0, 0] + 1} is not")
    return Particles.build(position, unit="voxel", tomogram=file_tomogram(path, conversion), score=score)


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write points in voxels.

    Raises
    ------
    InputError
        If the voxel spacing is needed and not given.
    """
    found = conversion.to_unit(particles, "voxel", "napari (voxels)")
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*HEADER, "score"))
        for i, (zyx, score) in enumerate(zip(found.position_zyx.tolist(), found.score.tolist(), strict=True)):
            writer.writerow([i, *map(repr, zyx), "" if math.isnan(score) else repr(score)])
