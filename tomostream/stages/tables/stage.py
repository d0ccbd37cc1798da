"""Which tables does a path stand for, of which tomograms, and what is known to convert them?  Light: no store is opened unless one is named.

A folder stands for the tables in it.  A table of picks that is empty says that nothing was found in the tomogram that its file names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.formats.registry import FORMATS, TABLE_ENDINGS, Conversion, file_tomogram, read_table
from tomostream.particles import Particles
from tomostream.remote.places import Place, place

if TYPE_CHECKING:
    from tomostream.tomogram import Tomogram

# what a folder of tables is searched for: not .txt and .tsv, which may hold anything
_IN_FOLDERS = tuple(ending for ending in TABLE_ENDINGS if ending not in (".txt", ".tsv"))


def conversion_from(tomograms: Sequence[str], voxel_size: float | None, **others: object) -> Conversion:
    """Gather spacings and shapes from stores, and one spacing for the rest.

    Raises
    ------
    InputError
        If a store can't be opened.
    """
    opened: list[Tomogram] = []
    if tomograms:
        from tomostream.tomogram import open_tomogram

        opened = [open_tomogram(path) for path in tomograms]
    return Conversion(
        spacings={t.name: t.spacing for t in opened},
        shapes={t.name: t.shape for t in opened},
        spacing=voxel_size,
        **others,  # type: ignore[arg-type]  # the caller's keywords are Conversion's own fields
    )


def table_paths(path: str | Place, format_name: str | None = None) -> list[Place]:
    """List the tables that a file or folder stands for.

    Raises
    ------
    InputError
        If there is none.
    """
    path = place(path)
    if not path.exists():
        raise InputError(f"there is no file or folder {path}; give a table, or a folder of tables")
    if not path.is_dir():
        return [path]
    endings = (FORMATS[format_name].ending,) if format_name in FORMATS else _IN_FOLDERS
    found = sorted(p for p in path.iterdir() if p.suffix in endings and not p.name.startswith("."))
    if not found:
        raise InputError(f"folder {path} holds no table ({', '.join(endings)})")
    return found


def read_scored(path: str | Place, conversion: Conversion, *, format_name: str | None = None) -> tuple[Particles, list[str]]:
    """Read the picks of a file or folder; returns them with the names of the tomograms that are scored.

    Raises
    ------
    InputError
        If there is no table, one is broken, or two hold picks of one species in one tomogram.
    """
    parts: list[Particles] = []
    names: list[str] = []
    holder: dict[tuple[str, str], Place] = {}
    tables = table_paths(path, format_name)
    if conversion.tomogram is not None and len(tables) > 1:
        raise InputError(f"{path} holds {len(tables)} tables; --tomogram can name the tomogram of one")
    for table in tables:
        part = read_table(table, format_name=format_name, conversion=conversion).named(tomogram=table.stem)
        for name in part.tomograms():
            for species in part.of(tomogram=name).species_names():
                if (other := holder.setdefault((name, species), table)) is not table:
                    raise InputError(f"{other} and {table} both hold picks of '{species}' in tomogram '{name}'; keep one of them")
        names.extend(part.tomograms() or [file_tomogram(table, conversion)])
        parts.append(part)
    return _join(parts), list(dict.fromkeys(names))


def read_truth(path: str | Place, scored: Sequence[str], conversion: Conversion, *, format_name: str | None = None) -> Particles:
    """Read the truth of a file or folder; rows without tomogram are the only scored one's.

    Raises
    ------
    InputError
        If a table is broken, or rows without tomogram can't be assigned.
    """
    known = _join([read_table(table, format_name=format_name, conversion=conversion) for table in table_paths(path, format_name)])
    if "" in known.tomograms():
        if len(scored) != 1:
            raise InputError(
                f"truth {path} has rows without tomogram, and several tomograms are scored ({', '.join(scored)}); add a column 'tomogram'"
            )
        known = known.named(tomogram=scored[0])
    return known


def require_inside(particles: Particles, conversion: Conversion, where: str) -> None:
    """Check positions against the tomograms whose shape and spacing are known.

    Raises
    ------
    InputError
        If under 95 % of a tomogram's lie in it: swapped axes, or voxels taken for angstrom.
    """
    for name in particles.tomograms():
        shape, spacing = conversion.shapes.get(name, conversion.shape), conversion.spacings.get(name, conversion.spacing)
        if shape is None or (spacing is None and particles.unit == "angstrom"):
            continue
        voxels = particles.of(tomogram=name).in_unit("voxel", spacing).position_zyx
        is_inside = np.all((voxels >= -0.5) & (voxels <= np.asarray(shape) - 0.5), axis=1)
        if is_inside.mean() < defaults.INSIDE_FRACTION:
            raise InputError(
                f"{where}: only {is_inside.sum()} of {len(voxels)} positions lie inside tomogram '{name}' of z,y,x = "
                f"{','.join(map(str, shape))} voxels (at least {100 * defaults.INSIDE_FRACTION:.0f} % must), the largest are z,y,x = "
                f"{','.join(f'{v:g}' for v in voxels.max(axis=0))}; are axes swapped, voxels taken for angstrom, or is the format another?"
            )


def _join(parts: list[Particles]) -> Particles:
    full = [part for part in parts if len(part)]
    if len({part.unit for part in full}) > 1:
        raise InputError("some of these tables are in voxels, some in angstrom; give them in one unit")
    return Particles.concatenate(full)
