"""Motive lists in EM files: a matrix of 20 rows, one column per particle, as used by TOM, AV3, Artiatomi and similar software.

Convention: rows 8 to 10 are x, y, z in voxels and count from 1 (MATLAB), rows 11 to 13 the shifts that alignment found, which are added;
rows 17 to 19 are the angles phi, psi, theta (degrees); row 1 is the score (all zeros: there is none), row 5 the tomogram's number, row 20 the class.  One file holds one tomogram and species;
the tomogram is the file's stem unless it is named.  Written as float32, little-endian.

The file: 512 bytes of head (byte 0 the machine, byte 3 the type, then three int32 sizes, fastest first) and the matrix.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.conversion import Conversion, file_tomogram
from tomostream.formats.table_format import TableFormat
from tomostream.orientations import angles, matrices, or_identity
from tomostream.particles import Particles
from tomostream.remote.atomic_files import write_atomically

_HEAD = 512
_ROWS = 20
_SCORE, _NUMBER, _TOMOGRAM, _INDEX, _X, _SHIFT, _ANGLES, _CLASS = 0, 3, 4, 5, 7, 10, [16, 18, 17], 19  # rows, counted from 0
_TYPES = {2: "i2", 4: "i4", 5: "f4", 9: "f8"}
_PC, _FLOAT32 = 6, 5


def read(path: Path, conversion: Conversion) -> Particles:
    """Read positions (with their shifts) as voxels that count from 0.

    Raises
    ------
    InputError
        If it is no motive list, or one of several tomograms.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    if len(content) < _HEAD:
        raise InputError(f"{path} is not an EM file: it has {len(content)} bytes, but the header alone has {_HEAD}")
    # the machine's byte is often wrong: the number of rows shows the byte order
    order = next((o for o in "<>" if struct.unpack_from(f"{o}i", content, 4)[0] == _ROWS), None)
    if order is None or content[3] not in _TYPES:
        raise InputError(
            f"{path} is not a motive list: that is an EM file of {_ROWS} rows of numbers (types {', '.join(map(str, _TYPES))})"
        )
    _, columns, planes = struct.unpack_from(f"{order}3i", content, 4)
    kind = np.dtype(order + _TYPES[content[3]])
    expected = _ROWS * columns * planes * kind.itemsize
    if columns < 0 or planes != 1 or len(content) - _HEAD != expected:
        raise InputError(
            f"{path} is a broken motive list: {columns} x {planes} columns take {expected} bytes, but it has {len(content) - _HEAD}"
        )
    table = np.frombuffer(content, kind, offset=_HEAD).reshape(columns, _ROWS).astype(np.float64)
    if not np.isfinite(table[:, [_TOMOGRAM, *range(_X, _SHIFT + 3), *_ANGLES]]).all():
        raise InputError(f"{path} holds positions or angles that are not finite")
    numbers = np.unique(table[:, _TOMOGRAM])
    if len(numbers) > 1:
        raise InputError(
            f"{path} holds tomograms {', '.join(f'{n:g}' for n in numbers)} (row {_TOMOGRAM + 1}); split it into one file each"
        )
    xyz = table[:, _X : _X + 3] - 1 + table[:, _SHIFT : _SHIFT + 3]
    score = table[:, _SCORE] if table[:, _SCORE].any() else np.nan
    return Particles.build(
        xyz[:, ::-1], unit="voxel", tomogram=file_tomogram(path, conversion), score=score, rotation=matrices(table[:, _ANGLES], "em")
    )


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write a motive list of one tomogram, numbered 1, and one class, numbered 1.

    Raises
    ------
    InputError
        If the voxel spacing is needed and not given.
    """
    found = conversion.written_in(particles, "voxel", "em (voxels)")
    table = np.zeros((len(found), _ROWS), "<f4")
    table[:, _SCORE] = np.nan_to_num(found.score)
    table[:, _NUMBER] = table[:, _INDEX] = np.arange(1, len(found) + 1)
    table[:, _TOMOGRAM] = table[:, _CLASS] = 1
    table[:, _X : _X + 3] = found.position_zyx[:, ::-1] + 1
    table[:, _ANGLES] = angles(or_identity(found.rotation, len(found)), "em")
    head = struct.pack("<4B3i", _PC, 0, 0, _FLOAT32, _ROWS, len(found), 1)
    write_atomically(path, head.ljust(_HEAD, b"\0") + table.tobytes())


FORMAT = TableFormat(read=read, write=write, ending=".em", known_by=(".em",), one_tomogram=True, one_species=True)
