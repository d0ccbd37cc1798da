"""ChimeraX's and Chimera's markers: `.cmm`, XML, in angstrom.

Convention: x y z in angstrom from the map's first voxel (ChimeraX adds a map's own origin, if its header has one, to the map only).  One
file holds one tomogram, one marker set per species, with the attributes `species` and `tomogram`, which ChimeraX keeps; other software's
sets have neither, then the tomogram is the file's stem unless it is named.  Each marker carries its score as an attribute.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.formats.conversion import Conversion, file_tomogram
from tomostream.formats.format_option import BOX_SIZE
from tomostream.formats.table_format import TableFormat
from tomostream.particle_columns import number
from tomostream.particles import Particles
from tomostream.remote.atomic_files import write_atomically

_COLOURS = ((1.0, 0.8, 0.1), (0.1, 0.7, 1.0), (1.0, 0.3, 0.5), (0.3, 0.9, 0.3), (0.7, 0.5, 1.0))  # red, green, blue of one species each


def read(path: Path, conversion: Conversion) -> Particles:
    """Read all marker sets as angstrom.

    Raises
    ------
    InputError
        If it is no file of markers.
    """
    try:
        if b"<!ENTITY" in (content := path.read_bytes()):  # nothing that ChimeraX writes; nested ones fill the memory
            raise InputError(f"{path} declares XML entities, which a file of markers never has; remove them")
        root = ElementTree.fromstring(content)
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path} is not a file of markers: {error}") from None
    sets = [root] if root.tag == "marker_set" else root.findall("marker_set")
    if root.tag not in ("marker_set", "marker_sets"):
        raise InputError(f"{path} is not a file of markers: its root is <{root.tag}>, not <marker_set>")
    parts = [_read_set(path, one, conversion) for one in sets]
    return Particles.concatenate(parts)


def _read_set(path: Path, markers: ElementTree.Element, conversion: Conversion) -> Particles:
    rows, scores = [], []
    for marker in markers.findall("marker"):
        try:
            rows.append([number(marker.attrib[axis]) for axis in ("z", "y", "x")])
            scores.append(number(marker.get("score", "nan")))
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}, marker {marker.get('id')}: x, y, z must be numbers: {error}") from None
        if not all(map(math.isfinite, rows[-1])):
            raise InputError(f"{path}, marker {marker.get('id')}: its position must be finite, found {rows[-1][::-1]}")
    return Particles.build(
        np.array(rows).reshape(-1, 3),
        unit="angstrom",
        tomogram=markers.get("tomogram") or file_tomogram(path, conversion),
        species=markers.get("species", ""),
        score=scores,
    )


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write one marker set per species; the markers' radius is half the box, if one is given.

    Raises
    ------
    InputError
        If the voxel spacing is needed and not given.
    """
    found = conversion.written_in(particles, "angstrom", "cmm (angstrom)")
    lines = []
    order = {kind: i for i, kind in enumerate(conversion.classes or found.species_names() or [""])}  # one colour a species in all files
    for species in found.species_names() or [""]:
        here, index = found.of(species=species), order[species]
        name = here.tomograms()[0] if len(here) else ""
        radius = _radius_ang(name, conversion) if len(here) else 0.0  # nothing is drawn
        red, green, blue = _COLOURS[index % len(_COLOURS)]
        known = "".join(f" {key}={quoteattr(value)}" for key, value in (("species", species), ("tomogram", name)) if value)
        lines.append(f"<marker_set name={quoteattr(species or path.stem)}{known}>")
        for marker_id, ((z, y, x), score) in enumerate(zip(here.position_zyx.tolist(), here.score.tolist(), strict=True), 1):
            scored = "" if math.isnan(score) else f' score="{score!r}"'
            lines.append(
                f'<marker id="{marker_id}" x="{x!r}" y="{y!r}" z="{z!r}" r="{red}" g="{green}" b="{blue}" radius="{radius:g}"{scored}/>'
            )
        lines.append("</marker_set>")
    if lines.count("</marker_set>") > 1:
        lines = ["<marker_sets>", *lines, "</marker_sets>"]
    write_atomically(path, "\n".join(lines) + "\n")


def _radius_ang(tomogram: str, conversion: Conversion) -> float:
    box = conversion.given(BOX_SIZE)
    if box is None:
        return defaults.MARKER_RADIUS_ANG
    return (box.value if not box.is_voxels else box.value * conversion.spacing_of(tomogram, "cmm with a box in voxels")) / 2


FORMAT = TableFormat(read=read, write=write, ending=".cmm", known_by=(".cmm",), one_tomogram=True, options=(BOX_SIZE,))
