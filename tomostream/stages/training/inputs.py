"""What does a training need?  The clicked tomograms, opened and measured at the level that is read; and its fingerprint.

1. Clicks outside tomograms that are still to be converted are refused: only heads of files are read.
2. Open the stores; the spacing and the particles' radii decide the pyramid level.
3. Sort the clicks, measure the levels.
4. The fingerprint: whatever decides the model's bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tomostream import defaults
from tomostream.config.sections import Species
from tomostream.errors import BudgetError, InputError
from tomostream.fingerprint import Fingerprint, plain
from tomostream.formats.csv_table import csv_text
from tomostream.geometry import Triple
from tomostream.normalisation import ROBUST
from tomostream.progress import Progress
from tomostream.remote.hashing import file_sha256
from tomostream.remote.places import place
from tomostream.stages.shared.click_tables import ClickTables
from tomostream.stages.shared.clicks import by_tomogram, check_inside
from tomostream.stages.shared.fingerprints import tomogram_fingerprint
from tomostream.stages.shared.resolved_run import Head, ResolvedRun
from tomostream.stages.voxel_statistics.stage import measure
from tomostream.strategies.training_set import Labelled
from tomostream.tomogram import Tomogram, open_tomogram
from tomostream.version import VERSION


def clicks_of(run: ResolvedRun) -> ClickTables:
    """The clicks of a run that was resolved for training."""
    if run.clicks is None:
        raise TypeError("this run was resolved without its clicks")
    return run.clicks


def check_positions(run: ResolvedRun) -> None:
    """Refuse clicks that lie outside their tomograms, and radii that no particle of a tomogram has.

    Raises
    ------
    InputError
        If under 95 % of a tomogram's clicks lie inside it, a radius is less than a voxel or more than half of it, or a clicked tomogram can't be read.
    """
    for purpose, points in clicks_of(run).purposes.items():
        for name in points.tomograms():
            if (lost := run.unreadable.get(name)) is not None:
                if isinstance(lost, BudgetError):  # its file is sound
                    raise lost
                raise InputError(
                    f"labels.{purpose} has clicks in '{name}', which can't be read: {lost}; mend the file, or take its clicks out of the table"
                )
            one = run.tomograms[name]
            if isinstance(one.head, Head):
                _check_radii(run.species, one.head.shape, one.head.spacing, name)
                check_inside(points.of(tomogram=name), one.head.shape, one.head.spacing, name, f"labels.{purpose}")


@dataclass(frozen=True, slots=True)
class OpenedInputs:
    """The tomograms of a training, opened: by name; the level that is read, and the spacing of level 0 in angstrom."""

    tomograms: Mapping[str, Tomogram]
    level: int
    spacing: float


def open_inputs(run: ResolvedRun) -> OpenedInputs:
    """Open the stores that training reads.

    Raises
    ------
    InputError
        If one is missing, or they differ in voxel spacing.
    """
    clicks = clicks_of(run)
    tomograms = {name: open_tomogram(run.tomograms[name].store, voxel_size=run.voxel_size) for name in clicks.needed}
    _check_spacings(tomograms)
    first = tomograms[clicks.train.tomograms()[0]]
    _check_radii(run.species, first.shape, first.spacing, first.name)
    level = run.strategy.reading_level(run.species, first.spacing, run.learning.network.level)
    return OpenedInputs(tomograms, level, first.spacing)


def labelled_inputs(run: ResolvedRun, opened: OpenedInputs, normalisation: str, progress: Progress) -> tuple[Labelled, Labelled | None]:
    """The labelled tomograms at the level that is read, with a kind of normalisation: to learn from, and to validate on.

    Raises
    ------
    TomostreamError
        If clicks lie outside, or a tomogram can't be measured or is constant.
    """
    clicks, memory = clicks_of(run), run.learning.memory
    unsaid = Progress()  # `click_doubts` has told of the clicks outside, before any work
    points = by_tomogram(clicks.train, opened.tomograms, run.species_names, "labels.train", unsaid)
    points |= {name: [np.empty((0, 3)) for _ in run.species] for name in clicks.others}
    labelled = _with_rejected(_at_level(points, opened, normalisation, memory), run, opened, progress)
    if clicks.validate is None:
        return labelled, None
    validated = by_tomogram(clicks.validate, opened.tomograms, run.species_names, "labels.validate", unsaid)
    return labelled, _at_level(validated, opened, normalisation, memory)


def _with_rejected(labelled: Labelled, run: ResolvedRun, opened: OpenedInputs, progress: Progress) -> Labelled:
    """The places that are no particles, in the tomograms with clicks; those elsewhere are left out, and counted aloud."""
    rejected, clicked = clicks_of(run).rejected, set(labelled.clicked.names)
    if len(rejected) and not learns_rejected(run):
        progress.say(
            f"labels.train: {len(rejected)} places labelled 0 are left out, because objective {run.strategy.name} learns from particles alone"
        )
        return labelled
    here = rejected.select(np.array([name in clicked for name in rejected.tomogram], dtype=bool))
    if len(here) < len(rejected):
        progress.say(
            f"labels.train: {len(rejected) - len(here)} places labelled 0 lie in tomograms without a clicked particle; they are left out"
        )
    if not len(here):
        return labelled
    progress.say(f"labels.train: {len(here)} places labelled 0 are learnt as no particles")
    places = by_tomogram(here, opened.tomograms, run.species_names, "labels.train", progress)
    none = [np.empty((0, 3)) for _ in run.species]
    return replace(labelled, rejected=[[t.to_level_positions(p) for p in places.get(t.name, none)] for t in labelled.tomograms])


def learns_rejected(run: ResolvedRun) -> bool:
    """Whether the run's strategy learns from places that are labelled 0."""
    return getattr(run.strategy, "learns_rejected", False)


def _at_level(points: Mapping[str, list[np.ndarray]], opened: OpenedInputs, normalisation: str, memory: int) -> Labelled:
    chosen: list[Tomogram] = []
    for name in points:
        tomogram = opened.tomograms[name].at_level(opened.level)
        measured = measure(tomogram, memory=memory)
        if measured.is_constant:
            raise InputError(f"tomogram '{name}' is constant (mean {measured.mean:g}), so there is nothing to learn from; leave it out")
        chosen.append(tomogram.with_normalisation(measured.of_kind(normalisation)))
    return Labelled(chosen, [[t.to_level_positions(p) for p in points[t.name]] for t in chosen])


def _check_radii(species: Iterable[Species], shape: Triple, spacing: float, name: str) -> None:
    for one in species:
        one.check_radius(shape, spacing, name)


def _check_spacings(tomograms: Mapping[str, Tomogram]) -> None:
    spacings = {name: t.spacing for name, t in tomograms.items()}
    low, high = min(spacings.values()), max(spacings.values())
    if high / low - 1 > defaults.SPACING_STOP:
        text = ", ".join(f"{name} {value:g} A" for name, value in spacings.items())
        raise InputError(
            f"the labelled tomograms differ in voxel spacing by more than {100 * defaults.SPACING_STOP:.0f} %: {text}; bin them to one spacing"
        )


def training_fingerprint(run: ResolvedRun, opened: OpenedInputs, processes: int) -> Fingerprint:
    """Return everything that determines the model; `processes` train it."""
    clicks = clicks_of(run)
    values: Fingerprint = {
        "species": run.values["species"],
        "objective": {key: value for key, value in run.values["objective"].items() if key != "rejected_weight"},
        **run.strategy.fingerprint(run.learning),
        "level": opened.level,
        "normalisation": ROBUST,
        "labels": _labels(clicks),
        "train_tables": len(clicks.train_tables) if clicks.species is None else 1,
        "tomograms": [tomogram_fingerprint(t) for t in opened.tomograms.values()],
        "version": VERSION,
    } | ({"processes": processes} if processes > 1 else {})
    if len(clicks.rejected) and learns_rejected(run):
        values |= {"rejected_weight": weight} if (weight := run.values["objective"]["rejected_weight"]) else {}
    return plain(values)


def _labels(clicks: ClickTables) -> list[str]:
    """Return hashes of the tables of clicks; of one species of several, those of its own rows: those of others don't change its model."""
    if clicks.species is None:
        return [file_sha256(place(table)) for table in (*clicks.train_tables, *clicks.validate_tables)]
    parts = [clicks.train, clicks.rejected, *([] if clicks.validate is None else [clicks.validate])]
    return [hashlib.sha256(csv_text(part, unit=part.unit).encode()).hexdigest() for part in parts]
