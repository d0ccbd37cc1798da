"""The CryoET Data Portal's annotations: one JSON object per line, `{"type": "point", "location": {"x": ..., "y": ..., "z": ...}}`.

Convention: voxel index of the tomogram, x y z; one file holds one tomogram and species, and names neither: the tomogram is the file's
stem unless it is named.  An `orientedPoint` has an `xyz_rotation_matrix`, from the reference to the tomogram; `instancePoint` is read as a
point.  Scores can't be held.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.conversion import Conversion, file_tomogram
from tomostream.formats.table_format import TableFormat
from tomostream.formats.text_files import json_number, parse_json, read_lines, what_is_wrong
from tomostream.orientations import are_rotations
from tomostream.particles import Particles
from tomostream.remote.atomic_files import write_atomically

_TYPES = ("point", "orientedPoint", "instancePoint")


def read(path: Path, conversion: Conversion) -> Particles:
    """Read points as voxels.

    Raises
    ------
    InputError
        If a line is no point.
    """
    rows: list[list[float]] = []
    turned: list[np.ndarray] = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            point = parse_json(line)
            kind, row = point.get("type"), [json_number(point["location"][axis]) for axis in ("z", "y", "x")]
            turned.append(_rotation(point.get("xyz_rotation_matrix")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}, line {number} is not a point of the portal: {what_is_wrong(error)}") from None
        if kind not in _TYPES or not all(math.isfinite(value) for value in row):
            raise InputError(f"{path}, line {number}: expected type {', '.join(_TYPES)} and finite numbers, found '{line.strip()[:120]}'")
        rows.append(row)
    rotation = np.array(turned).reshape(-1, 3, 3)
    return Particles.build(np.array(rows).reshape(-1, 3), unit="voxel", tomogram=file_tomogram(path, conversion), rotation=rotation)


def _rotation(matrix: Any) -> np.ndarray:
    if matrix is None:
        return np.full((3, 3), np.nan)
    found = np.array([[json_number(value) for value in row] for row in matrix])
    if found.shape != (3, 3) or not are_rotations(found[None]).all():
        raise ValueError("xyz_rotation_matrix must be a rotation, 3 x 3")
    return found


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write points in voxels.

    Raises
    ------
    InputError
        If the voxel spacing is needed and not given.
    """
    found = conversion.written_in(particles, "voxel", "portal-ndjson (voxels)")
    lines = []
    for i, (z, y, x) in enumerate(found.position_zyx.tolist()):
        point: dict[str, Any] = {"type": "point", "location": {"x": x, "y": y, "z": z}}
        if found.rotation is not None and np.isfinite(found.rotation[i]).all():
            point = {**point, "type": "orientedPoint", "xyz_rotation_matrix": found.rotation[i].tolist()}
        lines.append(json.dumps(point) + "\n")
    write_atomically(path, "".join(lines))


FORMAT = TableFormat(read=read, write=write, ending=".ndjson", known_by=(".ndjson",), one_tomogram=True, one_species=True)
