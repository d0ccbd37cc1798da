"""IMOD models: `.mod`, binary, big-endian; one file holds one tomogram, with one object of scattered points per species.

Convention: IMOD counts x and y from a voxel's edge and z from its middle, so that the centre of voxel (i, j, k) is at
(i + 0.5, j + 0.5, k).  Coordinates are voxels of the file on which the model was last saved, whatever origin that file's header has, so
none is applied; and none is written (no chunk MINX), so that 3dmod takes them as voxels of the file that it shows.  Points are float32.
All contours of an object are read as its points; scores can't be held.

The file: `IMODV1.2`, the model's header, then chunks: OBJT and after it CONT (points) and MESH have fixed heads, all others tell their
size, IEOF ends.

References
----------
IMOD's binary file format, https://bio3d.colorado.edu/imod/doc/binspec.html
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.conversion import Conversion, file_tomogram
from tomostream.formats.table_format import TableFormat
from tomostream.particles import Particles
from tomostream.remote.atomic_files import write_atomically

_MAGIC = b"IMODV1.2"
_MODEL = struct.Struct(">128s4iI4i6f3i2if2i3f")  # name; size x y z, objects; flags; display; offset, scale; current; res, thresh; pixel ...
_OBJECT = struct.Struct(
    ">64s64xiI2i3fi8B2i"
)  # name; contours, flags; axis, draw mode; red, green, blue; size; symbol ...; meshes, surfaces
_CONTOUR = struct.Struct(">iIii")  # points, flags, time, surface
_MESH = struct.Struct(">iiIi")  # floats / 3, indices, flags, time and surface
_Z_FROM_MINUS_HALF, _OPEN, _SCATTERED = 1 << 10, 1 << 3, 1 << 9
_EDGE = np.array([0.0, 0.5, 0.5])  # z y x of a voxel's centre as IMOD counts it
_POINT_RADIUS = 5  # voxels, as drawn
_NANOMETRE = -9  # IMOD's unit code: the power of ten of a metre


def read(path: Path, conversion: Conversion) -> Particles:
    """Read all points as voxels; an object's name is the species.

    Raises
    ------
    InputError
        If it is no IMOD model, or a truncated one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    if content[:4] != _MAGIC[:4]:
        raise InputError(f"{path} is not an IMOD model: it begins with {content[:8]!r}, not {_MAGIC!r}")
    parts: list[tuple[str, np.ndarray]] = []
    species, at = "", len(_MAGIC) + len(_bytes(path, content, len(_MAGIC), _MODEL.size))
    while (chunk := _bytes(path, content, at, 4)) != b"IEOF":
        at += 4
        if chunk == b"OBJT":
            name, *_ = _head(path, _OBJECT, content, at)
            species = name.split(b"\0")[0].decode("utf-8", "replace").strip()
            at += _OBJECT.size
        elif chunk == b"CONT":
            count, *_ = _head(path, _CONTOUR, content, at)
            at += _CONTOUR.size
            xyz = np.frombuffer(_bytes(path, content, at, 12 * count), ">f4").reshape(-1, 3)
            parts.append((species, xyz[:, ::-1].astype(np.float64) - _EDGE))
            at += 12 * count
        elif chunk == b"MESH":
            floats, indices, *_ = _head(path, _MESH, content, at)
            at += _MESH.size + len(_bytes(path, content, at + _MESH.size, 12 * floats + 4 * indices))
        else:
            (size,) = _head(path, struct.Struct(">i"), content, at)
            at += 4 + len(_bytes(path, content, at + 4, size))
    points = np.concatenate([part for _, part in parts] or [np.empty((0, 3))])
    if not np.isfinite(points).all():
        raise InputError(f"{path} holds points that are not finite")
    kinds = [kind for kind, part in parts for _ in range(len(part))]
    return Particles.build(points, unit="voxel", tomogram=file_tomogram(path, conversion), species=kinds)


def _head(path: Path, layout: struct.Struct, content: bytes, at: int) -> tuple[Any, ...]:
    return layout.unpack(_bytes(path, content, at, layout.size))


def _bytes(path: Path, content: bytes, at: int, size: int) -> bytes:
    if size < 0 or at + size > len(content):
        raise InputError(f"{path} is a broken IMOD model: at byte {at} it should have {size} more, but it ends at byte {len(content)}")
    return content[at : at + size]


def _short(name: str) -> bytes:
    """A name as it fits into an object's head, cut between letters."""
    return name.encode()[:63].decode("utf-8", "ignore").encode()


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write one object of scattered points a species.

    Raises
    ------
    InputError
        If the voxel spacing is needed and not given.
    """
    found = conversion.written_in(particles, "voxel", "imod (voxels)")
    name = found.tomograms()[0] if len(found) else ""
    depth, height, width = conversion.known_shape(name) or (0, 0, 0)
    spacing = conversion.known_spacing(name)
    pixel, unit = (spacing / 10, _NANOMETRE) if spacing else (1.0, 0)
    kinds = found.species_names()
    order = {kind: i for i, kind in enumerate(conversion.classes or kinds)}  # so that a species has one colour in all files
    display, current = (1, 2, 0, 255), (0, 0, -1)
    model = (b"tomostream", width, height, depth, len(kinds), _Z_FROM_MINUS_HALF, *display, 0, 0, 0, 1, 1, 1, *current, 3, 128)
    parts = [_MAGIC, _MODEL.pack(*model, pixel, unit, 0, 0, 0, 0)]
    for kind in kinds:
        points = (found.of(species=kind).position_zyx + _EDGE)[:, ::-1].astype(">f4")
        colour = [float(order[kind] % 3 != missing) for missing in (2, 0, 1)]
        drawn = (0, 1, *colour, _POINT_RADIUS, 1, 3, 1, 1, 0, 0, 0, 0, 0, 0)
        parts += [b"OBJT", _OBJECT.pack(_short(kind), 1, _OPEN | _SCATTERED, *drawn)]
        parts += [b"CONT", _CONTOUR.pack(len(points), 0, 0, 0), points.tobytes()]
    write_atomically(path, b"".join([*parts, b"IEOF"]))


FORMAT = TableFormat(read=read, write=write, ending=".mod", known_by=(".mod",), one_tomogram=True)
