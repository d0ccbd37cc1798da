"""What a strategy learns from: labelled tomograms at the level that it reads, and the settings that it sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomostream.config.configuration import LearningSettings
from tomostream.fingerprint import Fingerprint
from tomostream.normalisation import ROBUST
from tomostream.tomogram import Tomogram


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labelled tomograms of one purpose, at the strategy's level.

    Parameters
    ----------
    tomograms
        With statistics attached.
    points
        Per tomogram and species: float64 (n, 3) positions z y x in voxels of that level.
    rejected
        The same of places that a person said are no such particles; None: there are none.
    """

    tomograms: list[Tomogram]
    points: list[list[np.ndarray]]
    rejected: list[list[np.ndarray]] | None = None

    @property
    def clicked(self) -> Labelled:
        """The tomograms that have at least one click."""
        kept = [number for number, points in enumerate(self.points) if any(map(len, points))]
        rejected = None if self.rejected is None else [self.rejected[number] for number in kept]
        return Labelled([self.tomograms[number] for number in kept], [self.points[number] for number in kept], rejected)

    def rejected_of(self, species: int) -> list[np.ndarray]:
        """Places in each tomogram that are no particles of a species."""
        return [np.empty((0, 3)) if self.rejected is None else self.rejected[number][species] for number in range(len(self.tomograms))]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the tomograms."""
        return tuple(t.name for t in self.tomograms)

    def count(self, species: int) -> int:
        """Number of labels of a species."""
        return sum(len(p[species]) for p in self.points)

    @property
    def total(self) -> int:
        """Number of labels of all species."""
        return sum(len(points) for own in self.points for points in own)


@dataclass(frozen=True, slots=True)
class Training:
    """Inputs of one training; small enough to be sent to the other processes.

    Parameters
    ----------
    settings
        The configuration, as far as a strategy sees it.
    labelled
        Tomograms with clicks to learn from.
    validation
        Tomograms with validation clicks, which choose the best epoch; None: there are none.
    level
        Pyramid level that is read.
    spacing
        Of level 0, angstrom.
    fingerprint
        What decides the model: settings and data.
    buffer_bytes
        Bytes of voxels that a process may hold.
    normalisation
        How the tomograms are standardised; the model records it.
    """

    settings: LearningSettings
    labelled: Labelled
    validation: Labelled | None
    level: int
    spacing: float
    fingerprint: Fingerprint
    buffer_bytes: int
    normalisation: str = ROBUST

    @classmethod
    def planned(cls, settings: LearningSettings, level: int, spacing: float) -> Training:
        """Return a training of no tomogram: what a model that is only planned with needs to know."""
        return cls(settings, Labelled([], []), None, level, spacing, {}, 0)

    @property
    def level_spacing(self) -> float:
        """Voxel spacing of the level that is read, angstrom."""
        return float(self.spacing * 2**self.level)

    @property
    def radii_vox(self) -> list[float]:
        """Of the species, voxels of the level."""
        return [s.radius.in_voxels(self.spacing) / 2**self.level for s in self.settings.species]

    @property
    def radii_ang(self) -> tuple[float, ...]:
        """Of the species, angstrom."""
        return tuple(s.radius.in_angstrom(self.spacing) for s in self.settings.species)

    @property
    def given_label_radius_vox(self) -> float | None:
        """Of the labels, voxels of the level, where the configuration gives it."""
        given = self.settings.train.label_radius
        return None if given is None else given.in_voxels(self.spacing) / 2**self.level

    @property
    def species_names(self) -> tuple[str, ...]:
        """In the order of the outputs."""
        return tuple(s.name for s in self.settings.species)
