"""crYOLO's and TomoTwin's boxes in a tomogram: `.cbox`, a STAR file with the block `cryolo`.

Convention: voxels; `_CoordinateX` and `_CoordinateY` are the box's corner (centre - width / 2, centre - height / 2), `_CoordinateZ` is
the centre's; `_Confidence` is the score.  So writing needs the edge of the boxes.  One file holds one tomogram and species and names
neither: the tomogram is the file's stem unless it is named.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomostream.errors import InputError
from tomostream.formats import star_tables
from tomostream.formats.conversion import Conversion, file_tomogram
from tomostream.formats.format_option import BOX_SIZE
from tomostream.formats.star_file import read_star, write_star
from tomostream.formats.star_tables import MISSING
from tomostream.formats.table_format import TableFormat
from tomostream.particles import Particles

_COLUMNS = ("CoordinateZ", "CoordinateY", "CoordinateX", "Height", "Width")
_CONFIDENCE = "Confidence"
_WHY = "cbox"


def read(path: Path, conversion: Conversion) -> Particles:
    """Read the boxes' centres as voxels.

    Raises
    ------
    InputError
        If it is no such file, or a box lacks its size or (in micrographs) its z.
    """
    tables = read_star(path)
    boxes = [table for table in tables if table.block == "cryolo"]
    if not boxes:
        raise InputError(
            f"{path} is not a .cbox file: it has no block 'cryolo', its blocks are {', '.join(t.block for t in tables) or 'none'}"
        )
    table = star_tables.particle_table(path, boxes, _COLUMNS)
    z, y, x, height, width = star_tables.numbers(path, table, _COLUMNS).T
    score = star_tables.numbers(path, table, [_CONFIDENCE], may_lack=True)[:, 0] if _CONFIDENCE in table else np.nan
    centres = np.stack([z, y + height / 2, x + width / 2], axis=1)
    return Particles.build(centres, unit="voxel", tomogram=file_tomogram(path, conversion), score=score)


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write boxes around the particles.

    Raises
    ------
    InputError
        If the edge of the boxes is not given, or the voxel spacing where it is needed.
    """
    found = conversion.written_in(particles, "voxel", f"{_WHY} (voxels)")
    edge = _edge_vox(found.tomograms()[0] if len(found) else "", conversion)
    z, y, x = found.position_zyx.T
    same, none = np.full(len(found), float(edge)), np.full(len(found), np.nan)
    columns = {"CoordinateX": x - edge / 2, "CoordinateY": y - edge / 2, "CoordinateZ": z}
    columns |= dict.fromkeys(("Width", "Height", "Depth", "EstWidth", "EstHeight"), same)
    columns |= {_CONFIDENCE: found.score, "NumBoxes": none, "Angle": none}
    slices = np.unique(np.rint(z)).astype(int)  # those that count as looked through, if crYOLO trains on the boxes
    blocks = {"global": {"cbox_format_version": "1.0"}, "cryolo": columns, "cryolo_include": {"slice_index": slices}}
    write_star(path, blocks, missing=MISSING)


def _edge_vox(tomogram: str, conversion: Conversion) -> float:
    box = conversion.given(BOX_SIZE)
    if box is None:
        raise InputError(f"{_WHY} needs the edge of its boxes; give --box-size LENGTH, as 32vox or 270A")
    return box.value if box.is_voxels else box.in_voxels(conversion.spacing_of(tomogram, f"{_WHY} with a box in angstrom"))


FORMAT = TableFormat(read=read, write=write, ending=".cbox", known_by=(".cbox",), one_tomogram=True, one_species=True, options=(BOX_SIZE,))
