"""napari's points layers: CSV with the columns `index,axis-0,axis-1,axis-2`, in voxels, axis-0 being z.

Convention: the coordinates of the points' own layer; they are voxels if the layer's scale is 1, as it is when points are added to an
unscaled image (a layer of angstrom would be ours times the spacing: import does not guess).  One file holds one tomogram and species and
names neither: the tomogram is the file's stem unless it is named.  The columns `score` and `label` (properties of the points) are written and
read.
"""

from __future__ import annotations

import csv
import math
from io import StringIO
from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.conversion import Conversion, file_tomogram
from tomostream.formats.table_format import TableFormat
from tomostream.formats.text_files import read_text
from tomostream.particle_columns import labels, number, refuse_twice
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
        table = csv.reader(StringIO(read_text(path), newline=""))
        header = [name.strip() for name in next(table, [*HEADER])]
        rows = [fields for fields in table if any(fields)]
    except csv.Error as error:
        raise InputError(f"{path} can't be read as CSV: {error}") from None
    refuse_twice(header, str(path))
    axes = [name for name in header if name.startswith("axis-")]
    if axes != list(HEADER[1:]):
        raise InputError(
            f"{path}: a points layer of a tomogram has the columns {','.join(HEADER)}, found {','.join(axes) or 'no axis-...'}"
        )
    position, score = np.empty((len(rows), 3)), np.full(len(rows), np.nan)
    told: list[str] = []
    for i, fields in enumerate(rows):
        if len(fields) > len(header):
            raise InputError(f"{path}, point {i + 1}: {len(fields)} fields, expected {len(header)} ({','.join(header)})")
        row = dict(zip(header, [*fields, *[""] * (len(header) - len(fields))], strict=True))
        try:
            position[i] = [number(row[axis]) for axis in axes]
            score[i] = number(row.get("score") or "nan")
        except ValueError as error:
            raise InputError(f"{path}, point {i + 1}: {error}") from None
        told.append(row.get("label", ""))
    if not np.isfinite(position).all():
        raise InputError(f"{path}: every position must be finite, point {np.argwhere(~np.isfinite(position))[0, 0] + 1} is not")
    return Particles.build(position, unit="voxel", tomogram=file_tomogram(path, conversion), score=score, label=labels(told, str(path)))


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write points in voxels.

    Raises
    ------
    InputError
        If the voxel spacing is needed and not given.
    """
    found = conversion.written_in(particles, "voxel", "napari (voxels)")
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        is_labelled = found.has_negatives
        writer.writerow([*HEADER, "score", *["label"] * is_labelled])
        for i, (zyx, score, label) in enumerate(zip(found.position_zyx.tolist(), found.score.tolist(), found.label.tolist(), strict=True)):
            writer.writerow([i, *map(repr, zyx), "" if math.isnan(score) else repr(score), *[label] * is_labelled])


FORMAT = TableFormat(read=read, write=write, ending=".csv", one_tomogram=True, one_species=True, labelled=True)
