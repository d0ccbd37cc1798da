"""The CryoET Data Portal's annotations: one JSON object per line, `{"type": "point", "location": {"x": ..., "y": ..., "z": ...}}`.

Convention: voxel index of the tomogram, x y z; one file holds one tomogram and species, and names neither: the tomogram is the file's
stem unless it is named.  `orientedPoint` and `instancePoint` are read as points.  Scores can't be held.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.conversion import Conversion, file_tomogram
from tomostream.formats.table_format import TableFormat
from tomostream.formats.text_files import json_number, parse_json, read_lines
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
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            point = parse_json(line)
            kind, row = point.get("type"), [json_number(point["location"][axis]) for axis in ("z", "y", "x")]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}, line {number} is not a point of the portal: {type(error).__name__}: {error}") from None
        if kind not in _TYPES or not all(math.isfinite(value) for value in row):
            raise InputError(f"{path}, line {number}: expected type {', '.join(_TYPES)} and finite numbers, found '{line.strip()[:120]}'")
        rows.append(row)
    return Particles.build(np.array(rows).reshape(-1, 3), unit="voxel", tomogram=file_tomogram(path, conversion))


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write points in voxels.

    Raises
    ------
    InputError
        If the voxel spacing is needed and not given.
    """
    found = conversion.written_in(particles, "voxel", "portal-ndjson (voxels)")
    lines = [json.dumps({"type": "point", "location": {"x": x, "y": y, "z": z}}) + "\n" for z, y, x in found.position_zyx.tolist()]
    write_atomically(path, "".join(lines))


FORMAT = TableFormat(read=read, write=write, ending=".ndjson", known_by=(".ndjson",), one_tomogram=True, one_species=True)
