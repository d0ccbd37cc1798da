"""Clicked centres: read, assigned to tomograms and species, checked against the volumes before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.formats.registry import Conversion, read_table
from tomostream.particles import Particles
from tomostream.progress import Progress
from tomostream.remote.places import place
from tomostream.stages.shared.inside import at_faces, counts_as_inside, overshoot
from tomostream.store.naming import counterpart, tomogram_name

_ODD_CHANCE, _NO_CHANCE = 1e-3, 1e-12  # that all points lie in one corner: worth a word, and never by chance

_FEW, _AT_FACE = 3, 1.0  # points of which a common face says something; voxels from it

if TYPE_CHECKING:
    from tomostream.geometry import Triple
    from tomostream.tomogram import Tomogram


def inside_volume(particles: Particles, tomogram: Tomogram, where: str, progress: Progress) -> Particles:
    """Return the particles of one tomogram, in voxels, that lie in its volume; the others are dropped with a warning.

    Those at most a voxel outside are moved onto the face, with a warning too.

    Raises
    ------
    InputError
        If under 95 % lie inside: axes are swapped, or voxels were given as angstrom.
    """
    shape = tomogram.at_level(0).shape
    inside = check_inside(particles, shape, tomogram.spacing, tomogram.name, where)
    for text in suspicions(particles, shape, tomogram.spacing, tomogram.name):
        progress.warn(f"{where}: {text}")
    found = particles.in_unit("voxel", tomogram.spacing)
    if not inside.all():
        progress.warn(
            f"{where}: {np.count_nonzero(~inside)} of {len(particles)} points lie outside tomogram '{tomogram.name}' and are left out"
        )
    if (little := overshoot(found.position_zyx, shape)) is not None:
        progress.warn(f"{where}: {little} tomogram '{tomogram.name}' and are taken to be at its face")
    found = found.select(inside)
    return replace(found, position_zyx=at_faces(found.position_zyx, shape))


def suspicions(particles: Particles, shape: Triple, spacing: float, name: str) -> Iterator[str]:
    """What is odd about where particles lie in a tomogram, though it may be meant."""
    if corner_chance(particles, shape, spacing) < _ODD_CHANCE:
        yield _in_corner(particles, spacing, name)
    if (text := on_one_face(particles.in_unit("voxel", spacing).position_zyx, shape)) is not None:
        yield f"{text} of tomogram '{name}'; has the table lost a column, or is an axis swapped?"


def is_inside(particles: Particles, shape: Triple, spacing: float) -> np.ndarray:
    """Which particles count as inside a volume of this shape (voxels z y x) and spacing (angstrom)."""
    return counts_as_inside(particles.in_unit("voxel", spacing).position_zyx, shape)


def on_one_face(position_zyx: np.ndarray, shape: Triple) -> str | None:
    """Say that all points (z y x, voxels) lie on one face of a volume, which no clicks do; None where they don't, or are fewer than three."""
    if len(position_zyx) < _FEW:
        return None
    for axis, name in enumerate("zyx"):
        along, last = position_zyx[:, axis], shape[axis] - 1
        for face in (0, last):
            if last > 2 * _AT_FACE and (np.abs(along - face) <= _AT_FACE).all():
                return f"all {len(along)} points lie on the face {name} = {face}"
    return None


def check_inside(particles: Particles, shape: Triple, spacing: float, name: str, where: str) -> np.ndarray:
    """Which particles count as inside a volume of this shape (voxels z y x) and spacing (angstrom).

    Raises
    ------
    InputError
        If under 95 % do.
    """
    position_zyx = particles.in_unit("voxel", spacing).position_zyx
    inside = is_inside(particles, shape, spacing)
    if len(position_zyx) and inside.mean() < defaults.INSIDE_FRACTION:
        raise InputError(
            f"{where}: only {inside.sum()} of {len(particles)} points lie inside tomogram '{name}' ({100 * inside.mean():.0f} %; at least "
            f"{100 * defaults.INSIDE_FRACTION:.0f} % must); its shape is z,y,x = {','.join(map(str, shape))} voxels, the largest "
            f"coordinates are z,y,x = {','.join(f'{v:g}' for v in position_zyx.max(axis=0))} voxels; are axes swapped, or voxels and angstrom (spacing "
            f"{spacing:g} A)?"
        )
    if corner_chance(particles, shape, spacing) < _NO_CHANCE:
        raise InputError(
            f"{where}: {_in_corner(particles, spacing, name)}; if so, name the columns x_voxel, y_voxel, z_voxel (a table without header: --unit vox)"
        )
    return inside


def corner_chance(particles: Particles, shape: Triple, spacing: float) -> float:
    """How likely it is that positions in angstrom all lie where they would be inside if they were voxels; 1 where one does not.

    Voxels that are declared as angstrom lie in the corner of 1 / spacing of each axis.
    """
    if particles.unit != "angstrom" or spacing <= 1 or len(particles) == 0:
        return 1.0
    is_in_corner = ((particles.position_zyx >= 0) & (particles.position_zyx <= np.asarray(shape) - 0.5)).all()
    return float(spacing ** (-3.0 * len(particles))) if is_in_corner else 1.0


def _in_corner(particles: Particles, spacing: float, name: str) -> str:
    z, y, x = (particles.position_zyx.max(axis=0) / spacing).tolist()
    return (
        f"all {len(particles)} points lie in one corner of tomogram '{name}', within {x:.0f}, {y:.0f}, {z:.0f} voxels (x, y, z) of its first; "
        f"as voxels they would be spread over it: are they voxels that are named angstrom (the spacing is {spacing:g} A)?"
    )


def only_positives(points: Particles, where: str, progress: Progress) -> Particles:
    """Return the particles among clicks; places labelled 0 are left out, with a warning."""
    if points.has_negatives:
        progress.say(f"{where}: {len(points.negatives())} of {len(points)} rows are labelled 0 (not a particle); they are left out")
    return points.positives()


def read_points(
    tables: Sequence[str],
    species: Sequence[str],
    tomograms: Sequence[str],
    what: str,
    progress: Progress | None = None,
    *,
    with_rejected: bool = False,
) -> Particles:
    """Read and join tables of clicks; rows without species or tomogram get the only one there is, rows labelled 0 are left out, unless they are asked for.

    Raises
    ------
    InputError
        If a table is broken or empty, or names a species or tomogram that the configuration does not have.
    """
    only_species = species[0] if len(species) == 1 else None
    only_tomogram = tomograms[0] if len(tomograms) == 1 else None
    parts: list[Particles] = []
    progress = progress or Progress()
    for table in tables:
        part = read_table(table, conversion=Conversion(only_tomogram=only_tomogram, only_species=only_species, progress=progress))
        called = counterpart(tomogram_name(place(table).stem), tomograms)
        if part.tomograms() == [""] and called in tomograms:
            part = part.named(tomogram=called)
        part = part.renamed({name: counterpart(name, tomograms) for name in part.tomograms()})
        if len(part) == 0:
            raise InputError(f"{what} table {table} has no point; click some particles first")
        for kind, found, known in (("species", part.species_names(), species), ("tomogram", part.tomograms(), tomograms)):
            unknown = sorted(set(found) - set(known))
            if "" in unknown:
                raise InputError(
                    f"{what} table {table} has rows without {kind}, but there are several ({', '.join(known)}); add a column '{kind}'"
                )
            if unknown:
                raise InputError(f"{what} table {table} names {kind} {', '.join(unknown)}; the configuration has {', '.join(known)}")
        parts.append(part if with_rejected else only_positives(part, table, progress))
    units = {part.unit for part in parts}
    if len(units) > 1:
        raise InputError(f"{what} tables: some are in voxels, some in angstrom; give them in one unit")
    return Particles.concatenate(parts, unit=units.pop())


def by_tomogram(
    points: Particles, tomograms: Mapping[str, Tomogram], species: Sequence[str], where: str, progress: Progress
) -> dict[str, list[np.ndarray]]:
    """Sort points by tomogram and species: float64 (n, 3) positions z y x in voxels of the full resolution.

    A duplicate point (for instance of a table given twice) counts once, with a warning.

    Raises
    ------
    InputError
        If under 95 % of a tomogram's points lie inside it.
    """
    result: dict[str, list[np.ndarray]] = {}
    for name, here in points.by_tomogram():
        inside = inside_volume(here, tomograms[name], where, progress)
        result[name] = [_distinct(inside.of(species=kind).position_zyx, f"{where}: {name}, {kind}", progress) for kind in species]
    return result


def _distinct(position_zyx: np.ndarray, where: str, progress: Progress) -> np.ndarray:
    """The positions in their order, each once."""
    _, first = np.unique(position_zyx, axis=0, return_index=True)
    if len(first) < len(position_zyx):
        progress.warn(f"{where}: {len(position_zyx) - len(first)} of {len(position_zyx)} points are duplicates; each counts once")
    return position_zyx[np.sort(first)]
