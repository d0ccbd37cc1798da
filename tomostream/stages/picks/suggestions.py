"""`suggest`: where should the user look next?  At likely misses and at likely false picks, spread over the tomograms.

1. Pick twice the expected number N from each score map.  The last of them are surely no particles.
2. Half of the places are those of the most doubt.  Doubt of a pick: how near its score is to that of rank N, in units of the spread of the scores
   from rank N/2 to 2N, so that maps with other contrasts compare (uncertainty sampling: Lewis and Gale 1994).
3. The other half are spread evenly over the logarithm of the rank, from N/16 to N.  They show false picks among the best, which cost most, and still
   meet particles where N is several times too large.  The two halves take turns, so that any first part of the table has both.
4. Places that were clicked already are left out.  Tomograms take turns too: one odd tomogram must not take all the places.

The table is one of points, in the unit of the points that are known: the user keeps the rows that are particles, and gives it
beside the first clicks.

References
----------
Lewis and Gale 1994, "A sequential algorithm for training text classifiers", SIGIR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tomostream.cluster import Resources
from tomostream.config import Species
from tomostream.errors import InputError
from tomostream.formats.csv_table import csv_text
from tomostream.particles import Particles
from tomostream.picking.how_many import Best, how_many
from tomostream.progress import Progress
from tomostream.remote.atomic_files import write_atomically
from tomostream.score_map import open_score_map
from tomostream.stages.picks.expected_count import expected_number
from tomostream.stages.picks.stage import PickSettings, no_score_map, pick_map
from tomostream.stages.shared.clicks import read_points
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.store.naming import distinct_names
from tomostream.units import Length

BEYOND = 2  # times the expected number are candidates
BEST = 16  # the expected number over the first rank that is looked at: the very best picks are hardly ever wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class SuggestSettings:
    """The settings of `suggest`."""

    radius: Length  # of the particle
    expected: int  # particles in a tomogram
    points: int  # places wanted, of all tomograms together
    smooth: Length | None
    species: str | None

    def check(self) -> None:
        """Refuse impossible numbers.

        Raises
        ------
        InputError
            If a number is below one.
        """
        how_many(count=self.expected)
        if self.points < 1:
            raise InputError(f"--points must be at least 1, found {self.points}")


def doubt(scores: np.ndarray, expected: int) -> np.ndarray:
    """How near the scores of picks are to the border between particles and others, 0 or more; less is more doubtful.

    Parameters
    ----------
    scores
        Float64 (n,), falling.
    expected
        Rank of the border.
    """
    rank = min(expected, len(scores))
    border = scores[rank - 1]
    around = scores[max(0, rank // 2 - 1) :]
    spread = float(around.max() - around.min())
    distance: np.ndarray = np.abs(scores - border)
    return distance / spread if spread > 0 else distance


def spread(free: np.ndarray, expected: int, count: int) -> list[int]:
    """Choose ranks that are spread evenly over their logarithm, whatever part of them is taken (van der Corput's sequence).

    Parameters
    ----------
    free
        Int (n,), rising: the ranks to choose from, from 0.
    expected
        About the largest rank.
    count
        How many to choose.
    """
    low = max(1.0, expected / BEST)
    left = free.copy()
    chosen: list[int] = []
    for number in range(1, min(count, len(free)) + 1):
        share = sum((number >> bit & 1) / 2 ** (bit + 1) for bit in range(number.bit_length()))
        nearest = int(np.abs(left - (low * (expected / low) ** share - 1)).argmin())
        chosen.append(int(left[nearest]))
        left = np.delete(left, nearest)
    return chosen


def in_turns(scores: np.ndarray, free: np.ndarray, expected: int, count: int) -> np.ndarray:
    """Return at most `count` of the free ranks, in turns of a spread one and the most doubtful one.

    Parameters
    ----------
    scores
        Float64 (n,) of all picks, falling.
    free
        Int (m,), rising: ranks that may be chosen, from 0.
    expected, count
        Rank of the border, and number of places.
    """
    doubtful = free[np.argsort(doubt(scores, expected)[free], kind="stable")].tolist()
    pairs = zip(spread(free, expected, count), doubtful, strict=False)
    return np.array(list(dict.fromkeys(rank for pair in pairs for rank in pair))[:count], dtype=np.int64)


def suggest_places(
    maps: Mapping[str, tuple[str, SuggestSettings]], known: Particles | None, *, points: int, memory: int, progress: Progress
) -> Particles:
    """Choose the places.

    Parameters
    ----------
    maps
        Per tomogram its score map, and what is wanted of it.
    known
        Points that were looked at.
    points
        Places wanted in all.

    Returns
    -------
    Particles
        In the unit of `known`, else in angstrom; fewer than `points` if there are no more.

    Raises
    ------
    TomostreamError
        If a map can't be picked.
    """
    ranked: list[Particles] = []
    for name, (path, settings) in maps.items():
        settings.check()
        scores = open_score_map(path)
        if (doubt := no_score_map(scores)) is not None:
            progress.warn(f"{name}: {doubt}")
        wanted = PickSettings(
            radius=settings.radius, how_many=Best(BEYOND * settings.expected), smooth=settings.smooth, species=settings.species
        )
        picks = pick_map(scores, wanted, resources=Resources(memory=memory), progress=progress)
        if len(picks) == 0:
            continue
        far = _far_from(picks, known, name, settings.radius.in_angstrom(scores.spacing), scores.spacing)
        chosen = picks.select(in_turns(picks.score, np.flatnonzero(far), settings.expected, points))
        if known is not None:
            chosen = chosen.in_unit(known.unit, scores.spacing)  # both tables are given to the next training, in one unit
        if chosen.unit == "voxel":
            chosen = replace(chosen, position_zyx=np.rint(chosen.position_zyx))  # picks are voxels: no rounding of the spacing is left
        ranked.append(replace(chosen, tomogram=np.full(len(chosen), name, dtype=object)))
    # one of each tomogram, then the second of each, ...
    turns = np.concatenate([np.arange(len(part)) for part in ranked]) if ranked else np.empty(0, dtype=np.int64)
    places = Particles.concatenate(ranked, unit="angstrom" if known is None else known.unit)
    return places.select(np.argsort(turns, kind="stable")[:points])


def _far_from(picks: Particles, known: Particles | None, name: str, radius: float, spacing: float) -> np.ndarray:
    is_far = np.ones(len(picks), dtype=bool)
    if known is not None:
        for point in known.of(tomogram=name).in_unit("angstrom", spacing).position_zyx:
            is_far &= ((picks.position_zyx - point) ** 2).sum(axis=1) > radius**2
    return is_far


def suggest_from_maps(
    paths: Sequence[str], settings: SuggestSettings, *, known: Sequence[str], output: Path, memory: int, progress: Progress
) -> Particles:
    """Suggest places in score maps; write the table.

    Raises
    ------
    TomostreamError
        If a map or table can't be read.
    """
    names = distinct_names(paths)
    maps = {name: (path, settings) for name, path in names.items()}
    species = settings.species or open_score_map(next(iter(names.values()))).attributes.species
    points = read_points(known, [species], list(names), "--known") if known else None
    return _write(suggest_places(maps, points, points=settings.points, memory=memory, progress=progress), output, settings.points, progress)


def suggest_from_run(run: ResolvedRun, tables: Sequence[str], *, points: int, output: Path, progress: Progress) -> Particles:
    """Suggest places in the score maps of a run; all species share the places.

    Parameters
    ----------
    tables
        Clicks that are known.

    Raises
    ------
    InputError
        If the run has no score maps yet.
    """
    every: list[Particles] = []
    share = -(-points // len(run.species))
    for species in run.species:
        scores = run.project.score_folder(species.name, len(run.species))
        found = distinct_names(sorted(str(path) for path in scores.glob("*.ome.zarr")))
        if not found:
            raise InputError(f"{scores} has no score map; first run `tomostream run`, at least up to the stage predict")
        settings = {name: _settings(run, species, name, points) for name in found}
        maps = {name: (path, one) for name, path in found.items() if (one := settings[name]) is not None}
        known = read_points(tables, run.species_names, list(run.paths | found), "labels").of(species=species.name)
        every.append(suggest_places(maps, known, points=share, memory=run.learning.memory, progress=progress))
    return _write(Particles.concatenate(every).select(np.arange(min(points, sum(map(len, every))))), output, points, progress)


def _settings(run: ResolvedRun, species: Species, tomogram: str, points: int) -> SuggestSettings | None:
    """What is wanted of a score map; None where no particle is expected."""
    given = run.pick.count
    expected = given if isinstance(given, int) else expected_number(run, species, tomogram)
    if expected is None:
        raise InputError(
            f"the expected number of {species.name} in '{tomogram}' is not known: give species.expected, or call suggest on the score maps with --expected N"
        )
    if expected == 0:
        return None
    return SuggestSettings(radius=species.radius, expected=expected, points=points, smooth=run.pick.smooth, species=species.name)


def _write(places: Particles, output: Path, wanted: int, progress: Progress) -> Particles:
    write_atomically(output, csv_text(places, unit=places.unit))
    if len(places) < wanted:
        progress.warn(f"{len(places)} places, fewer than the {wanted} requested: the score maps have no more peaks")
    progress.say(
        f"{output}: {len(places)} places to check; add a column `label`, 1 for a particle and 0 for none, and give this table together with the first clicks"
    )
    return places
