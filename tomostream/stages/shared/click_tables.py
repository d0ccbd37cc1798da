"""Which clicks does a configuration name, and which tomograms does training use?  Tables are read once, voxels never."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tomostream import defaults
from tomostream.config.configuration import LearningSettings
from tomostream.config.sections import Labels
from tomostream.errors import InputError
from tomostream.formats.lists import tables
from tomostream.particles import Particles
from tomostream.stages.shared.clicks import read_points
from tomostream.strategies.protocol import Strategy


@dataclass(frozen=True, slots=True)
class ClickTables:
    """The clicks of a run.

    Parameters
    ----------
    train_tables, validate_tables
        The files.
    train, validate
        The particles in them; None: there is no validation.
    rejected
        Places in the training tables that are labelled 0: no particles.
    others
        Tomograms without clicks that are learnt from too.
    is_strict
        Whether clicks on nothing are refused, not only told.
    species
        The species whose rows of the files these are; None: all rows.
    """

    train_tables: tuple[str, ...]
    validate_tables: tuple[str, ...]
    train: Particles
    validate: Particles | None
    rejected: Particles
    others: tuple[str, ...]
    is_strict: bool = True
    species: str | None = None

    @property
    def needed(self) -> list[str]:
        """The tomograms that training reads."""
        validated = [] if self.validate is None else self.validate.tomograms()
        return list(dict.fromkeys([*self.train.tomograms(), *validated, *self.others]))

    @property
    def repeated(self) -> int:
        """Return how many validation clicks are also training clicks: they can't show how well other particles are found."""
        if self.validate is None or self.validate.unit != self.train.unit:
            return 0
        return len(_rows(self.validate) & _rows(self.train))

    @property
    def purposes(self) -> Mapping[str, Particles]:
        """Return the tables by the configuration's keys."""
        given = {"train": self.train, "validate": self.validate}
        return {purpose: points for purpose, points in given.items() if points is not None}


def read_click_tables(labels: Labels, settings: LearningSettings, strategy: Strategy, tomograms: Sequence[str]) -> ClickTables:
    """Read the clicks, and check them against the expected numbers.

    Raises
    ------
    InputError
        If a table is broken, or its clicks don't fit the tomograms, the species or what is expected.
    """
    names = [one.name for one in settings.species]
    train_tables, validate_tables = tables(labels.train), tables(labels.validate_)
    clicks = read_points(train_tables, names, tomograms, "labels.train", with_rejected=True)
    train, rejected = clicks.positives(), clicks.negatives()
    validate = read_points(validate_tables, names, tomograms, "labels.validate") if validate_tables else None
    others = unlabelled_names(settings, strategy, tomograms, train.tomograms())
    _check_expected(settings, strategy, train, rejected)
    return ClickTables(tuple(train_tables), tuple(validate_tables), train, validate, rejected, tuple(others), labels.check == "stop")


def steps_for(clicks: Particles) -> int:
    """Return the training steps for these clicks, where the configuration gives none: by the species that has most (docs/measurements.md, "More clicks")."""
    most = max((len(own) for _, own in clicks.by_species()), default=0)
    return min(max(defaults.STEPS, defaults.STEPS_PER_CLICK * most), defaults.MOST_STEPS)


def unlabelled_names(settings: LearningSettings, strategy: Strategy, names: Sequence[str], clicked: Sequence[str]) -> list[str]:
    """Return the tomograms without clicks whose voxels are learnt from too: as many as are asked for, evenly spaced.

    They show a network what other tomograms' contrast and background look like, at no further click.  Only objectives that expect
    particles among the unlabelled voxels gain by them, and a prior that is given is that of the clicked tomograms.
    """
    if not strategy.needs_prior or settings.objective.prior is not None:
        return []
    free = [name for name in names if name not in clicked]
    count = min(settings.train.unlabelled, len(free))
    return [free[round((i + 0.5) * len(free) / count - 0.5)] for i in range(count)]


def _rows(points: Particles) -> set[tuple[object, ...]]:
    return set(zip(points.tomogram.tolist(), points.species.tolist(), map(tuple, points.position_zyx.tolist()), strict=True))


def _check_expected(settings: LearningSettings, strategy: Strategy, clicks: Particles, rejected: Particles) -> None:
    is_needed = strategy.needs_prior and settings.objective.prior is None
    tomograms = clicks.tomograms()
    for species in settings.species:
        counts = {name: len(clicks.of(tomogram=name, species=species.name)) for name in tomograms}
        for name in tomograms:
            if isinstance(species.expected, dict) and is_needed and name not in species.expected:
                raise InputError(
                    f"species '{species.name}': expected has no number for tomogram '{name}', which has clicks: add it; "
                    f"it names {', '.join(species.expected) or 'none'}"
                )
            expected, clicked = species.expected_in(name), counts[name]
            if expected is not None and expected < clicked:
                raise InputError(
                    f"species '{species.name}': expected is {expected} for tomogram '{name}', but {clicked} particles are clicked there: raise it; "
                    "expected is the number of all particles in the tomogram, so at least the number of clicks"
                )
        if not any(counts.values()):
            only = len(rejected.of(species=species.name))
            without = f"; its {only} rows are labelled 0 (not a particle), so click some particles too, with label 1" if only else ""
            raise InputError(f"labels.train has no point of species '{species.name}'{without}")
