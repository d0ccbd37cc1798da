"""The truth of a run: read once, and checked against the tomograms before any work, since it is used at the end of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tomostream.errors import InputError
from tomostream.evaluation.tables import UNNAMED_SPECIES
from tomostream.formats.registry import Conversion
from tomostream.particles import Particles
from tomostream.stages.shared.particle_tables import little_outside, read_truth

_MOST_NAMES = 8  # of tomograms, in a message


@dataclass(frozen=True, slots=True)
class TruthTable:
    """All particles of a run's tomograms, as far as they are known.

    Parameters
    ----------
    where
        The file or folder, as the configuration names it.
    particles
        Rows labelled 0 included; tomograms are named as the run names them, others as the table does.
    species
        Those of which it has particles in the run's tomograms, and which can be evaluated; all, where it has no row.
    unknown
        Those of the run that it lacks.
    outside
        What is to be said of particles that lie a little outside their tomogram; they count.
    """

    where: str
    particles: Particles
    species: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()

    @property
    def doubts(self) -> list[str]:
        """What should be told of it before any work."""
        return [*([] if (lack := self._lack) is None else [lack]), *self.outside]

    @property
    def _lack(self) -> str | None:
        if self.unknown:
            return (
                f"truth {self.where} has no particle of species {_listed(self.unknown)}, only of {_listed(self.particles.positives().species_names())}: "
                f"{_listed(self.species)} will be evaluated, {_listed(self.unknown)} will not; add the missing rows, or mend the names, if that is not meant"
            )
        if len(self.particles):
            return None
        return (
            f"truth {self.where} has no row, only a header: there is nothing to evaluate against, and every pick would count as false; fill it in, "
            "or leave truth out"
        )

    @property
    def counts(self) -> Mapping[str, Counter[str]]:
        """The number of particles by tomogram and species."""
        particles = self.particles.positives()
        found: dict[str, Counter[str]] = {}
        for tomogram, species in zip(particles.tomogram.tolist(), particles.species.tolist(), strict=True):
            found.setdefault(tomogram, Counter())[species] += 1
        return found


def read_truth_table(path: str, tomograms: Sequence[str], species: Sequence[str], conversion: Conversion) -> TruthTable:
    """Read the truth of a run.

    Parameters
    ----------
    tomograms, species
        Names of the run's.
    conversion
        Spacings and shapes of the tomograms, as far as they are known.

    Raises
    ------
    InputError
        If a table is broken, rows without tomogram can't be assigned, none is of a tomogram or species of the run, or positions lie outside of theirs.
    """
    particles = read_truth(path, tomograms, conversion, only_species=species[0] if len(species) == 1 else None)
    named = particles.tomograms()
    if named and not set(named) & set(tomograms):
        raise InputError(
            f"truth {path} names tomogram {_listed(named)}; those of the run are {_listed(tomograms)}; rename them in the table, or leave truth out"
        )
    here = particles.select(np.isin(particles.tomogram.astype(str), list(tomograms)))
    outside = tuple(little_outside(here, conversion, f"truth {path}"))
    known = _known_species(path, here, species)
    if len(species) == 1 and known and set(particles.species_names()) <= UNNAMED_SPECIES:
        particles = replace(particles, species=np.full(len(particles), species[0], dtype=object))
    return TruthTable(path, particles, known, tuple(name for name in species if name not in known), outside)


def _known_species(path: str, particles: Particles, species: Sequence[str]) -> tuple[str, ...]:
    """The species of the run that a truth has particles of; all of them if it is empty.

    Raises
    ------
    InputError
        If it has particles of other species only, or doesn't name them where the run has several.
    """
    named = particles.positives().species_names()
    if set(named) <= UNNAMED_SPECIES:
        if named and len(species) > 1:
            raise InputError(
                f"truth {path} does not name the species of its particles, and the run has several ({_listed(species)}): add a column 'species', or leave "
                "truth out"
            )
        return tuple(species)
    known = tuple(name for name in species if name in named)
    if not known:
        raise InputError(
            f"truth {path} has no particle of {_listed(species)}, only of {_listed(named)}; rename them in the table, or leave truth out"
        )
    return known


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + (" ..." if len(names) > _MOST_NAMES else "")
