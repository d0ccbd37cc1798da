"""What does a training start from?  The tomograms, clicks and settings that its configuration names, checked; and what tells it from another.

1. Find the tomograms, read the clicks, check the numbers: no voxel is read.
2. Open the stores; the spacing and the particles' radii decide the pyramid level that is read.
3. The fingerprint: whatever decides the model's bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tomostream import __version__, defaults
from tomostream.config import Configuration, Species
from tomostream.errors import InputError
from tomostream.particles import Particles
from tomostream.project import input_paths, is_mrc, store_path
from tomostream.redaction import redacted
from tomostream.remote.places import place
from tomostream.stages.shared.clicks import check_inside, read_points
from tomostream.stages.shared.fingerprints import file_sha256, tomogram_fingerprint
from tomostream.store.decompress import peek_header
from tomostream.strategies.matched_filter.training import strategy_fingerprint
from tomostream.tomogram import Tomogram, open_tomogram


def choose_level(species: Iterable[Species], spacing: float, level: int | str) -> int:
    """Return the pyramid level that the network reads: the one asked for, or the coarsest that keeps the smallest particle's radius.

    "Keeps" means at least `defaults.MIN_RADIUS_VOX` voxels: each level has 8 times fewer voxels, so training and inference are faster by
    as much, and at equal time coarser wins as long as the particle's shape is still seen.
    """
    if level != "auto":
        return int(level)
    radius = min(s.radius.in_voxels(spacing) for s in species)
    chosen = 0
    while radius / 2 ** (chosen + 1) >= defaults.MIN_RADIUS_VOX:
        chosen += 1
    return chosen


def reading_level(configuration: Configuration, spacing: float) -> int:
    """Return the pyramid level that the configuration's strategy reads; see `choose_level`.

    The rotational average loses by binning, unlike networks, and costs seconds: its level is 0 where none is asked for.
    """
    if configuration.strategy == "average" and configuration.network.level == "auto":
        return 0
    return choose_level(configuration.species, spacing, configuration.network.level)


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """What the configuration names: tomograms by path, clicks, and the tomograms that are needed for them."""

    paths: dict[str, str]
    clicks: Particles
    checks: Particles | None
    others: list[str]  # tomograms without clicks that are learnt from too
    needed: list[str]

    @property
    def repeated(self) -> int:
        """How many of the validation's clicks are training clicks too: those say nothing of particles that nobody clicked."""
        if self.checks is None or self.checks.unit != self.clicks.unit:
            return 0
        return len(_rows(self.checks) & _rows(self.clicks))


def _rows(points: Particles) -> set[tuple[object, ...]]:
    return set(zip(points.tomogram.tolist(), points.species.tolist(), map(tuple, points.position_zyx.tolist()), strict=True))


def read_inputs(configuration: Configuration) -> TrainingInputs:
    """Find the tomograms and read the clicks.

    Raises
    ------
    InputError
        If they don't fit together, or to what is expected.
    """
    paths = input_paths(configuration.tomograms)
    species = [s.name for s in configuration.species]
    clicks = read_points(configuration.labels.train, species, list(paths), "labels.train")
    checks = (
        read_points(configuration.labels.validate_, species, list(paths), "labels.validate") if configuration.labels.validate_ else None
    )
    labelled_names = list(dict.fromkeys([*clicks.tomograms(), *(checks.tomograms() if checks is not None else [])]))
    others = unlabelled_names(configuration, list(paths), clicks.tomograms())
    _check_expected(
        configuration, clicks.tomograms(), {(t, s): len(clicks.of(tomogram=t, species=s)) for t in clicks.tomograms() for s in species}
    )
    return TrainingInputs(paths, clicks, checks, others, list(dict.fromkeys([*labelled_names, *others])))


def check_positions(configuration: Configuration, inputs: TrainingInputs) -> None:
    """Refuse clicks that lie outside tomograms which are still to be converted; only heads of files are read.

    Raises
    ------
    InputError
        If under 95 % of a tomogram's clicks lie inside it.
    """
    for points, where in ((inputs.clicks, "labels.train"), (inputs.checks, "labels.validate")):
        for name in points.tomograms() if points is not None else []:
            path = inputs.paths[name]
            if not is_mrc(path) or place(store_path(configuration, name, path)).exists():
                continue
            try:
                header = peek_header(place(path))
            except InputError:
                continue  # converting tells what is wrong with it
            spacing = configuration.voxel_size or header.spacing
            if points is not None and spacing is not None:
                check_inside(points.of(tomogram=name), header.shape, spacing, name, where)


def open_inputs(configuration: Configuration, inputs: TrainingInputs) -> tuple[dict[str, Tomogram], int, float]:
    """Open the stores; with the level that the network will read, and the spacing of level 0 in angstrom.

    Raises
    ------
    InputError
        If one is not there, or they differ in spacing.
    """
    tomograms = {name: open_tomogram(store_path(configuration, name, inputs.paths[name])) for name in inputs.needed}
    _check_spacings(tomograms)
    first = tomograms[inputs.clicks.tomograms()[0]]
    _check_radii(configuration.species, first)
    return tomograms, reading_level(configuration, first.spacing), first.spacing


def _check_radii(species: Iterable[Species], tomogram: Tomogram) -> None:
    """Refuse particles that are smaller than a voxel or larger than the tomogram: a slip of the unit, and hours of nonsense."""
    for one in species:
        radius = one.radius.in_voxels(tomogram.spacing)
        if not 1 <= radius <= max(tomogram.shape) / 2:
            raise InputError(
                f"species.{one.name}.radius: {one.radius} are {radius:.3g} voxels of tomogram '{tomogram.name}' ({tomogram.spacing:g} A each); "
                f"at least 1 and at most {max(tomogram.shape) / 2:g} voxels are allowed; check the radius, its unit and the spacing"
            )


def unlabelled_names(configuration: Configuration, names: list[str], clicked: list[str]) -> list[str]:
    """Return the tomograms without clicks whose voxels the network learns from too: as many as are asked for, evenly spaced.

    They show the network what other tomograms' contrast and background look like, at no further click.  Only objectives that expect
    particles among the unlabelled voxels gain by them, and a prior that is given is that of the clicked tomograms.
    """
    if not configuration.objective.needs_prior or configuration.objective.prior is not None:
        return []
    free = [name for name in names if name not in clicked]
    count = min(configuration.train.unlabelled, len(free))
    return [free[round((i + 0.5) * len(free) / count - 0.5)] for i in range(count)]


def _check_expected(configuration: Configuration, tomograms: list[str], counts: dict[tuple[str, str], int]) -> None:
    is_needed = configuration.objective.needs_prior and configuration.objective.prior is None
    for species in configuration.species:
        for name in tomograms:
            if isinstance(species.expected, dict) and is_needed and name not in species.expected:
                raise InputError(
                    f"species.{species.name}.expected has no number for tomogram '{name}', which has clicks; "
                    f"it names {', '.join(species.expected) or 'none'}"
                )
            expected, clicked = species.expected_in(name), counts[name, species.name]
            if expected is not None and expected < clicked:
                raise InputError(
                    f"species.{species.name}.expected is {expected} for tomogram '{name}', but {clicked} are clicked there; "
                    "expected is the number of all particles in the tomogram, so at least the number of clicks"
                )
        if not any(counts[name, species.name] for name in tomograms):
            raise InputError(f"labels.train has no point of species '{species.name}'")


def _check_spacings(tomograms: dict[str, Tomogram]) -> None:
    spacings = {name: t.spacing for name, t in tomograms.items()}
    low, high = min(spacings.values()), max(spacings.values())
    if high / low - 1 > defaults.SPACING_STOP:
        text = ", ".join(f"{name} {value:g} A" for name, value in spacings.items())
        raise InputError(
            f"the labelled tomograms differ in voxel spacing by more than {100 * defaults.SPACING_STOP:.0f} %: {text}; bin them alike"
        )


def training_fingerprint(configuration: Configuration, tomograms: dict[str, Tomogram], level: int, world: int) -> dict[str, Any]:
    """Whatever decides the model; `world` is the number of processes that train it."""
    resolved = configuration.resolved()
    relevant = {key: resolved[key] for key in ("species", "objective", "network", "train", "matched_filter")} | strategy_fingerprint(
        configuration
    )
    tables = [*configuration.labels.train, *configuration.labels.validate_]
    values: dict[str, Any] = {
        **relevant,
        "level": level,
        "labels": {redacted(table): file_sha256(place(table)) for table in tables},
        "train_tables": len(configuration.labels.train),
        "tomograms": [tomogram_fingerprint(t) for t in tomograms.values()],
        "version": __version__,
    } | ({"processes": world} if world > 1 else {})
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain
