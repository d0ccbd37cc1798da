"""`orient`: how are picks turned?  Each is aligned to the average of the clicked particles, if that has an orientation.

1. Read picks and clicks; check them against the tomograms; choose the pyramid level at which the radius has about ten voxels.
2. Make the average and the evidence that it has an orientation (`orienting`).  Where that is not enough, stop: nothing is written.
3. Pose each pick, one at a time.  The table has the rows of the picks, in their order, with their rotations; those at the rim of a tomogram, of which less
   than half can be seen, have none.

Limits: all tomograms have one voxel spacing and one wedge.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tomostream import defaults
from tomostream.budget import libraries_bytes
from tomostream.errors import BudgetError, InputError
from tomostream.evaluation.tables import UNNAMED_SPECIES
from tomostream.formats.csv_table import csv_text
from tomostream.formats.registry import Conversion, read_table
from tomostream.orientations import known_or_none
from tomostream.orienting.agreement import LEAST, Evidence
from tomostream.orienting.solving import STEPS, Solution, edge_for, solve, solving_bytes
from tomostream.particles import Particles
from tomostream.progress import Progress
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.places import place
from tomostream.stages.orientation.subtomograms import Place, Subtomograms
from tomostream.stages.shared.batch import writable_folder
from tomostream.stages.shared.clicks import by_tomogram, read_points
from tomostream.stages.shared.opening import open_told
from tomostream.stages.shared.particle_tables import conversion_from, read_scored, require_inside
from tomostream.store.naming import counterpart, distinct_names
from tomostream.strategies.matched_filter.density import Wedge
from tomostream.tomogram import Tomogram
from tomostream.units import Length, format_bytes

FEWEST = 10  # particles that are averaged
MOST = 200  # ... more don't make the average better where they are needed, and take longer
LEVEL_RADIUS_VOX = 7.5  # the coarsest level at which the radius has this many voxels is read
LEAST_RADIUS_VOX = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OrientSettings:
    """The settings of `orient`."""

    radius: Length
    tilt_range: tuple[float, float] = defaults.TILT_RANGE_DEG  # degrees; outside is the missing wedge
    tilt_axis: str = defaults.TILT_AXIS
    best: int = 0  # picks that are averaged besides the clicks
    refine_positions: bool = False
    species: str | None = None
    seed: int = defaults.SEED
    memory: int

    @property
    def wedge(self) -> Wedge:
        """The measured frequencies.

        Raises
        ------
        InputError
            If the tilts can't be.
        """
        try:
            first, last = (float(tilt) for tilt in self.tilt_range)
        except (TypeError, ValueError):
            raise InputError(f"--tilt-range must be two angles in degrees, as -60,60; found {self.tilt_range!r}") from None
        if not -90 <= first < last <= 90:
            raise InputError(f"--tilt-range must be two angles from -90 to 90 degrees, the smaller first, found {first:g},{last:g}")
        if self.tilt_axis not in ("x", "y"):
            raise InputError(f"--tilt-axis must be x or y, found '{self.tilt_axis}'")
        return Wedge(first, last, self.tilt_axis)


@dataclass(frozen=True, slots=True, eq=False)
class Oriented:
    """Picks with rotations, and what speaks for these."""

    picks: Particles
    evidence: Evidence
    averaged: int

    @property
    def count(self) -> int:
        """How many picks have a rotation."""
        rotation = self.picks.rotation
        return 0 if rotation is None else int(np.isfinite(rotation).all(axis=(1, 2)).sum())


def orient_files(
    picks: str, clicks: Sequence[str], stores: Sequence[str], output: Path, settings: OrientSettings, *, progress: Progress
) -> Oriented:
    """Orient the picks of a table or folder; write them as a table in angstrom.

    Raises
    ------
    InputError
        If a table or tomogram is not what it must be, or there is no telling how the particles are turned.
    BudgetError
        If the memory does not suffice.
    """
    _check_output(output, picks, clicks)
    tomograms = {name: open_told(path, progress) for name, path in distinct_names(stores).items()}
    conversion = replace(conversion_from(list(stores), None), progress=progress)
    found, _ = read_scored(picks, conversion)
    known = read_clicks(clicks, list(tomograms), progress)
    writable_folder(place(output).absolute().parent)
    done = orient_tables(found, known, tomograms, settings, progress=progress, where=picks)
    spacings = {name: one.spacing for name, one in tomograms.items()}
    write_atomically(output, csv_text(replace(done.picks, spacings=spacings).in_unit("angstrom"), unit="angstrom"))
    progress.say(f"{output}: {done.count} of {len(done.picks)} picks oriented; {_told(done.evidence, done.averaged)}")
    return done


def orient_tables(
    picks: Particles, clicks: Particles, tomograms: Mapping[str, Tomogram], settings: OrientSettings, *, progress: Progress, where: str
) -> Oriented:
    """Orient the picks of one species, after a look at names, species and positions; `where` names the picks in messages.

    Raises
    ------
    InputError, BudgetError
        As `orient_particles`; and if the picks have several species, the clicks are of another, or picks lie outside.
    """
    picks, clicks = (table.renamed({name: counterpart(name, list(tomograms)) for name in table.tomograms()}) for table in (picks, clicks))
    if len(picks) == 0:
        raise InputError(f"{where}: there are no picks to orient")
    picks = _of_species(picks, settings.species, where)
    known = Conversion(
        spacings={name: one.spacing for name, one in tomograms.items()},
        shapes={name: one.shape for name, one in tomograms.items()},
        progress=progress,
    )
    require_inside(picks, known, where)
    return orient_particles(picks, _of_the_same(clicks, picks.species_names()[0]), tomograms, settings, progress=progress)


def orient_particles(
    picks: Particles, clicks: Particles, tomograms: Mapping[str, Tomogram], settings: OrientSettings, *, progress: Progress
) -> Oriented:
    """Orient picks of one species.

    Parameters
    ----------
    picks
        In the unit in which they are returned.
    clicks
        Particles of the same kind.
    tomograms
        All that picks and clicks name, at level 0.

    Raises
    ------
    InputError
        If there are too few clicks, the radius is too small, or there is no telling how the particles are turned.
    BudgetError
        If the memory does not suffice.
    """
    wedge = settings.wedge
    tomograms, radius = _at_level(_named(tomograms, picks, clicks), settings.radius)
    at = {name: _voxels(here, tomograms[name]) for name, here in picks.by_tomogram()}
    clicked = by_tomogram(clicks, tomograms, clicks.species_names(), "--clicks", progress)
    averaged = _averaged(picks, at, {name: np.concatenate(parts) for name, parts in clicked.items()}, tomograms, radius, settings)
    _check_memory(len(averaged), radius, settings.memory)
    around = {
        name: np.concatenate([at.get(name, np.empty((0, 3))), *[p.voxel[None] for p in averaged if p.tomogram == name]])
        for name in tomograms
    }
    reader = Subtomograms(dict(tomograms), edge_for(radius), radius, around, np.random.default_rng([settings.seed, 1]))

    def background(count: int) -> np.ndarray:
        names = [averaged[number % len(averaged)].tomogram for number in range(count)]
        places = reader.background(names)
        return reader.cubes(places, np.zeros((count, 3)))

    with progress.track("averages", STEPS) as bar:
        solution = solve(
            lambda offsets: reader.cubes(averaged, offsets),
            background,
            len(averaged),
            radius=radius,
            wedge=wedge,
            seed=settings.seed,
            advance=bar.advance,
        )
    progress.record("oriented", agreement=solution.evidence.agreement, halves=solution.evidence.halves, averaged=len(averaged))
    if solution.poser is None:
        raise InputError(
            f"can't tell how these particles are turned: {_told(solution.evidence, len(averaged))} (at least {LEAST:g} is needed). Nothing is written. "
            "Click more particles (50 to 100), or average the best picks too with --best N; a particle that is nearly a sphere has no orientation to find"
        )
    return Oriented(_posed(picks, tomograms, reader, solution, settings, progress), solution.evidence, len(averaged))


def _posed(
    picks: Particles,
    tomograms: Mapping[str, Tomogram],
    reader: Subtomograms,
    solution: Solution,
    settings: OrientSettings,
    progress: Progress,
) -> Particles:
    """Return the picks with rotations, and with positions if these are wanted."""
    rotation = np.full((len(picks), 3, 3), np.nan)
    position = picks.position_zyx.copy()
    with progress.track("orientations", len(picks)) as bar:
        for name in picks.tomograms():
            tomogram = tomograms[name]
            rows = np.flatnonzero(picks.tomogram == name)
            voxels = _voxels(picks.select(rows), tomogram)
            for row, voxel in zip(rows.tolist(), np.rint(voxels).astype(int), strict=True):
                place = Place(name, voxel)
                if reader.is_seen(place):
                    turned, offset = solution.pose(functools.partial(reader.cubes, [place]))
                    # `turned` takes the tomogram's axes z y x to the average's; tables say the reverse, for x y z
                    rotation[row] = turned.T[::-1, ::-1]
                    if settings.refine_positions:
                        fine = tomogram.from_level_positions((voxel + offset)[None])[0]
                        position[row] = fine * tomogram.spacing if picks.unit == "angstrom" else fine
                bar.advance()
    return replace(picks, position_zyx=position, rotation=known_or_none(rotation))


def _averaged(
    picks: Particles,
    at: Mapping[str, np.ndarray],
    clicked: Mapping[str, np.ndarray],
    tomograms: Mapping[str, Tomogram],
    radius: float,
    settings: OrientSettings,
) -> list[Place]:
    """Return the places that are averaged: clicks, and the best picks that are no click, as far as asked for."""
    level = {name: tomograms[name].to_level_positions(points) for name, points in clicked.items()}
    found = [Place(name, np.rint(point).astype(int)) for name, points in level.items() for point in points]
    ranks: list[int] = np.argsort(-np.nan_to_num(picks.score, nan=-np.inf), kind="stable").tolist() if settings.best else []
    within = {name: iter(points) for name, points in at.items()}
    positions = [next(within[name]) for name in picks.tomogram.tolist()]
    added = 0
    for row in ranks:
        if added == settings.best:
            break
        name, here = str(picks.tomogram[row]), positions[row]
        if name in level and len(level[name]) and (((level[name] - here) ** 2).sum(axis=1) < radius**2).any():
            continue
        found.append(Place(name, np.rint(here).astype(int)))
        added += 1
    if len(found) < FEWEST:
        raise InputError(
            f"orient needs {FEWEST} particles to average, found {len(found)} ({len(found) - added} clicks); click more, or average the best picks too "
            f"with --best {FEWEST - len(found) + added} or more"
        )
    if len(found) > MOST:
        chosen = np.sort(np.random.default_rng([settings.seed, 2]).choice(len(found), MOST, replace=False))
        found = [found[number] for number in chosen]
    return found


def _at_level(tomograms: Mapping[str, Tomogram], length: Length) -> tuple[dict[str, Tomogram], float]:
    """Return the tomograms at the level that is read, and the radius in its voxels."""
    spacings = {name: one.spacing for name, one in tomograms.items()}
    first, spacing = next(iter(spacings.items()))
    for name, other in spacings.items():
        if abs(other / spacing - 1) > defaults.SPACING_WARN:
            raise InputError(
                f"tomogram '{name}' has voxels of {other:g} A, '{first}' of {spacing:g} A; orient tomograms of different voxel spacing apart"
            )
    radius = length.in_voxels(spacing)
    smallest = min(max(one.shape) for one in tomograms.values())
    if not LEAST_RADIUS_VOX <= radius <= smallest / 2:
        raise InputError(
            f"--radius {length} is {radius:.3g} voxels of {spacing:g} A; orient needs {LEAST_RADIUS_VOX:g} to {smallest / 2:g} "
            f"(half the longest edge of the smallest tomogram)"
        )
    level = 0
    while radius / 2 ** (level + 1) >= LEVEL_RADIUS_VOX:
        level += 1
    return {name: one.at_level(level) for name, one in tomograms.items()}, radius / 2**level


def _named(tomograms: Mapping[str, Tomogram], *tables: Particles) -> dict[str, Tomogram]:
    """Return the tomograms that tables name.

    Raises
    ------
    InputError
        If one is missing.
    """
    named = list(dict.fromkeys(name for table in tables for name in table.tomograms()))
    if missing := [name for name in named if name not in tomograms]:
        raise InputError(
            f"picks or clicks name the tomograms {', '.join(missing)}, and --tomograms has {', '.join(tomograms)}; give their stores too"
        )
    return {name: tomograms[name] for name in named}


def _voxels(particles: Particles, tomogram: Tomogram) -> np.ndarray:
    return tomogram.to_level_positions(particles.in_unit("voxel", tomogram.spacing).position_zyx)


def _of_species(picks: Particles, species: str | None, where: str) -> Particles:
    """Return the picks of the species that is asked for, or of the only one."""
    names = picks.species_names()
    if species is None and len(names) > 1:
        raise InputError(f"{where} has several species ({', '.join(names)}); choose one with --species")
    if species is not None and species not in names:
        raise InputError(f"--species {species}: {where} has {', '.join(names)}")
    return picks if species is None else picks.of(species=species)


def read_clicks(tables: Sequence[str], tomograms: list[str], progress: Progress) -> Particles:
    """Read tables of clicks, of any species.

    Raises
    ------
    InputError
        If one is broken, or names another tomogram.
    """
    kinds = list(dict.fromkeys(kind for table in tables for kind in read_table(table).species_names() if kind))
    return read_points(tables, kinds or [""], tomograms, "--clicks", progress)


def _of_the_same(clicks: Particles, species: str) -> Particles:
    """Return the clicks of the picks' species; where one of them names none, or there is no other, all of them.

    Raises
    ------
    InputError
        If they are of others.
    """
    clicks, kinds = clicks.positives(), clicks.species_names()
    if len(kinds) == 1 and (species in UNNAMED_SPECIES or kinds[0] in UNNAMED_SPECIES):
        return clicks
    if species not in kinds:
        raise InputError(
            f"--clicks has {', '.join(kinds) or 'no particle'}, and the picks are {species or 'of no species'}; give clicks of the same"
        )
    return clicks.of(species=species)


def _check_memory(count: int, radius: float, memory: int) -> None:
    needed = libraries_bytes() + solving_bytes(count, radius)
    if needed > memory:
        raise BudgetError(
            f"orienting by {count} particles of {radius:.3g} voxels' radius needs {format_bytes(needed)} but --memory is {format_bytes(memory)}; raise it"
        )


def _check_output(output: Path, picks: str, clicks: Sequence[str]) -> None:
    if str(output).rstrip("/").endswith(".csv") and all(Path(given).absolute() != Path(output).absolute() for given in (picks, *clicks)):
        return
    raise InputError(
        f"--output {output}: give another CSV file than those that are read, as oriented.csv; `tomostream export` writes other formats of it"
    )


def _told(evidence: Evidence, count: int) -> str:
    return f"the averages of two halves of {count} particles agree to {max(evidence.agreement, 0):.2f} (0: no more than spheres, 1: completely)"
