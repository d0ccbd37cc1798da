"""Clicked centres: read, assigned to tomograms and species, checked against the volumes before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.formats.registry import Conversion, read_table
from tomostream.particles import Particles
from tomostream.progress import Progress

if TYPE_CHECKING:
    from tomostream.geometry import Triple
    from tomostream.tomogram import Tomogram


def inside_volume(particles: Particles, tomogram: Tomogram, where: str, progress: Progress) -> Particles:
    """Return the particles of one tomogram, in voxels, that lie in its volume; the others are dropped, and counted aloud.

    Raises
    ------
    InputError
        If under 95 % lie inside: swapped axes, or voxels taken for angstrom.
    """
    is_inside = check_inside(particles, tomogram.at_level(0).shape, tomogram.spacing, tomogram.name, where)
    if not is_inside.all():
        progress.warn(
            f"{where}: {np.count_nonzero(~is_inside)} of {len(particles)} points lie outside tomogram '{tomogram.name}' and are left out"
        )
    return particles.in_unit("voxel", tomogram.spacing).select(is_inside)


def check_inside(particles: Particles, shape: Triple, spacing: float, name: str, where: str) -> np.ndarray:
    """Which particles lie in a volume of this shape (voxels z y x) and spacing (angstrom).

    Raises
    ------
    InputError
        If under 95 % do.
    """
    position_zyx = particles.in_unit("voxel", spacing).position_zyx
    is_inside: np.ndarray = np.all((position_zyx >= -0.5) & (position_zyx <= np.asarray(shape) - 0.5), axis=1)
    if len(position_zyx) and is_inside.mean() < defaults.INSIDE_FRACTION:
        raise InputError(
            f"{where}: only {is_inside.sum()} of {len(particles)} points lie inside tomogram '{name}' ({100 * is_inside.mean():.0f} %; at least "
            f"{100 * defaults.INSIDE_FRACTION:.0f} % must); its shape is z,y,x = {','.join(map(str, shape))} voxels, the largest "
            f"coordinates are z,y,x = {','.join(f'{v:g}' for v in position_zyx.max(axis=0))} voxels; are axes swapped, or voxels and angstrom (spacing "
            f"{spacing:g} A)?"
        )
    return is_inside


def read_points(tables: Sequence[str], species: Sequence[str], tomograms: Sequence[str], what: str) -> Particles:
    """Read and join tables of clicks; rows without species or tomogram get the only one there is.

    Raises
    ------
    InputError
        If a table is broken or empty, or names a species or tomogram that the configuration does not have.
    """
    only_species = species[0] if len(species) == 1 else None
    only_tomogram = tomograms[0] if len(tomograms) == 1 else None
    parts: list[Particles] = []
    for table in tables:
        part = read_table(table, conversion=Conversion(tomogram=only_tomogram, species=only_species))
        if len(part) == 0:
            raise InputError(f"{what} table {table} has no point; click some particles first")
        for kind, found, known in (("species", part.species_names(), species), ("tomogram", part.tomograms(), tomograms)):
            unknown = sorted(set(found) - set(known))
            if "" in unknown:
                raise InputError(
                    f"{what} table {table} has rows without {kind}, and there are several ({', '.join(known)}); add a column '{kind}'"
                )
            if unknown:
                raise InputError(f"{what} table {table} names {kind} {', '.join(unknown)}; the configuration has {', '.join(known)}")
        parts.append(part)
    units = {part.unit for part in parts}
    if len(units) > 1:
        raise InputError(f"{what} tables: some are in voxels, some in angstrom; give them in one unit")
    return Particles.concatenate(parts, unit=units.pop())


def by_tomogram(
    points: Particles, tomograms: Mapping[str, Tomogram], species: Sequence[str], where: str, progress: Progress
) -> dict[str, list[np.ndarray]]:
    """Sort points by tomogram and species: float64 (n, 3) positions z y x in voxels of the full resolution.

    A point that is there twice (one table given twice, say) counts once, and that is told.

    Raises
    ------
    InputError
        If under 95 % of a tomogram's points lie inside it.
    """
    result: dict[str, list[np.ndarray]] = {}
    for name in points.tomograms():
        inside = inside_volume(points.of(tomogram=name), tomograms[name], where, progress)
        result[name] = [_distinct(inside.of(species=kind).position_zyx, f"{where}: {name}, {kind}", progress) for kind in species]
    return result


def _distinct(position_zyx: np.ndarray, where: str, progress: Progress) -> np.ndarray:
    """The positions in their order, each once."""
    _, first = np.unique(position_zyx, axis=0, return_index=True)
    if len(first) < len(position_zyx):
        progress.warn(f"{where}: {len(position_zyx) - len(first)} of {len(position_zyx)} points are there more than once; each counts once")
    return position_zyx[np.sort(first)]
