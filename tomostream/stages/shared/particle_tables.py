"""Which tables does a path mean, of which tomograms, and what is known for converting them?  Fast: opens only stores that are named.

A folder means the tables in it.  An empty table of picks means that nothing was found in the tomogram that its file names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.formats.registry import (
    FORMATS,
    Conversion,
    file_tomogram,
    folder_tables,
    read_table,
    recognised,
    refuse_shared,
    table_endings,
)
from tomostream.particles import Particles
from tomostream.remote.path_kinds import Kind, Wanted, instead, kind_at
from tomostream.remote.places import Place, place
from tomostream.stages.shared.inside import counts_as_inside, overshoot
from tomostream.store.naming import counterpart
from tomostream.store.spacing import size_doubt

if TYPE_CHECKING:
    from tomostream.tomogram import Tomogram

_MAY_HOLD_ANYTHING = (".txt", ".tsv")  # a folder of tables is not searched for these


def conversion_from(tomograms: Sequence[str], voxel_size: float | None, **others: Any) -> Conversion:
    """Gather spacings and shapes from stores, and one spacing for the rest.

    Raises
    ------
    InputError
        If a store can't be opened, two have one name, or what the caller says contradicts what a store says.
    """
    opened: dict[str, Tomogram] = {}
    if tomograms:
        from tomostream.tomogram import open_tomogram

        for path in tomograms:
            one = open_tomogram(path, voxel_size=voxel_size)
            if one.name in opened:
                raise InputError(f"--tomograms: {opened[one.name].path} and {one.path} are both named '{one.name}'; give one of them")
            opened[one.name] = one
    shape = others.get("shape")
    if shape is not None and (odd := next((one for one in opened.values() if one.shape != tuple(shape)), None)) is not None:
        raise InputError(
            f"{odd.path} has {','.join(map(str, odd.shape))} voxels (z,y,x), --shape says {','.join(map(str, shape))}; leave --shape out"
        )
    found = Conversion(
        spacings={name: one.spacing for name, one in opened.items()},
        shapes={name: one.shape for name, one in opened.items()},
        spacing=voxel_size,
        **others,
    )
    if voxel_size is not None and (doubt := size_doubt(voxel_size)) is not None:
        found.progress.warn(doubt)
    return found


def scored_tables(path: str | Place, format_name: str | None = None) -> list[tuple[Place, str | None]]:
    """List the tables of a file or folder, as `import` reads them, with the species of those in a folder SPECIES.

    Raises
    ------
    InputError
        If there is none.
    """
    path = place(path)
    if not path.exists():
        raise InputError(f"there is no file or folder {path}; give a table, or a folder of tables")
    if not path.is_dir():
        return [(path, None)]
    known = format_name or recognised(path)
    if known is not None and known in FORMATS:
        return [(path, None)] if FORMATS[known].whole_folders else folder_tables(path, known)
    if format_name is None and kind_at(path) in (Kind.PROJECT, Kind.MODEL, Kind.STORE):
        raise InputError(instead(path, Wanted.TABLE) or f"{path} holds no table")
    endings = [ending for ending in table_endings() if ending not in _MAY_HOLD_ANYTHING]
    found = sorted(p for p in path.iterdir() if p.suffix in endings and not p.name.startswith("."))
    if not found:
        raise InputError(f"folder {path} holds no table ({', '.join(endings)})")
    return [(table, None) for table in found]


def table_paths(path: str | Place, format_name: str | None = None) -> list[Place]:
    """List the tables of a file or folder.

    Raises
    ------
    InputError
        If there is none.
    """
    return [table for table, _ in scored_tables(path, format_name)]


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
    tables = scored_tables(path, format_name)
    if conversion.tomogram is not None and len(tables) > 1:
        raise InputError(f"{path} holds {len(tables)} tables; --tomogram can name the tomogram of one")
    for table, species in tables:
        facts = conversion if species is None else replace(conversion, only_species=species)
        called = file_tomogram(table, conversion)
        part = read_table(table, format_name=format_name, conversion=facts).named(tomogram=called)
        refuse_shared(holder, table, part)
        names.extend(part.tomograms() or [called])
        parts.append(part)
    return _join(parts), list(dict.fromkeys(names))


def read_truth(
    path: str | Place, scored: Sequence[str], conversion: Conversion, *, format_name: str | None = None, only_species: str | None = None
) -> Particles:
    """Read the truth of a file or folder; rows without tomogram are the only scored one's, other names are matched to the scored.

    Raises
    ------
    InputError
        If a table is broken, or rows without tomogram can't be assigned.
    """
    parts: list[Particles] = []
    for table, species in scored_tables(path, format_name):
        facts = replace(conversion, only_species=species or only_species)
        parts.append(read_table(table, format_name=format_name, conversion=facts))
    return truth_of(_join(parts), scored, f"truth {path}")


def truth_of(known: Particles, scored: Sequence[str], where: str) -> Particles:
    """Assign truth to the scored tomograms: see `read_truth`.

    Raises
    ------
    InputError
        If rows without tomogram can't be assigned.
    """
    if "" in known.tomograms():
        if len(scored) != 1:
            raise InputError(
                f"{where} has rows without tomogram, and several tomograms are scored ({', '.join(scored)}); add a column 'tomogram'"
            )
        known = known.named(tomogram=scored[0])
    return known.renamed({name: counterpart(name, scored) for name in known.tomograms()})


def require_inside(particles: Particles, conversion: Conversion, where: str) -> None:
    """Check positions against the tomograms whose shape and spacing are known; warn of those that lie a little outside.

    Raises
    ------
    InputError
        As `little_outside`.
    """
    for text in little_outside(particles, conversion, where):
        conversion.progress.warn(text)


def little_outside(particles: Particles, conversion: Conversion, where: str) -> list[str]:
    """Check positions against the tomograms whose shape and spacing are known; say which lie a little outside.

    Raises
    ------
    InputError
        If under 95 % of a tomogram's lie in it: axes are swapped, or voxels were given as angstrom.
    """
    texts: list[str] = []
    for name, here in particles.by_tomogram():
        shape, spacing = conversion.known_shape(name), conversion.known_spacing(name)
        if shape is None or (spacing is None and particles.unit == "angstrom"):
            continue
        voxels = here.in_unit("voxel", spacing).position_zyx
        is_inside = counts_as_inside(voxels, shape)
        if is_inside.mean() < defaults.INSIDE_FRACTION:
            raise InputError(
                f"{where}: only {is_inside.sum()} of {len(voxels)} positions lie inside tomogram '{name}' of z,y,x = "
                f"{','.join(map(str, shape))} voxels (at least {100 * defaults.INSIDE_FRACTION:.0f} % must), the largest are z,y,x = "
                f"{','.join(f'{v:g}' for v in voxels.max(axis=0))}; check the order of the axes, the unit (voxels or angstrom) and the format"
            )
        if (little := overshoot(voxels, shape)) is not None:
            texts.append(f"{where}: {little} tomogram '{name}'")
    return texts


def _join(parts: list[Particles]) -> Particles:
    full = [part for part in parts if len(part)]
    if len({part.unit for part in full}) > 1:
        raise InputError("some of these tables are in voxels, some in angstrom; give them in one unit")
    return Particles.concatenate(full)
