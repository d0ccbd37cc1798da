"""The inputs of a training: labelled tomograms at the level that the strategy reads, and the settings that a strategy sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomostream.config.configuration import LearningSettings
from tomostream.fingerprint import Fingerprint
from tomostream.normalisation import ROBUST
from tomostream.tomogram import Tomogram


@dataclass(frozen=True, slots=True)
class Labelled:
    """Tomograms with clicks, for training or for validation, at the strategy's level.

    Parameters
    ----------
    tomograms
        Tomograms with their statistics attached.
    points
        [tomogram][species]: clicks, float64 (n, 3) positions z y x in voxels of that level.
    rejected
        The same for places that a person marked as not being particles of that species; None: there are none.
    """

    tomograms: list[Tomogram]
    points: list[list[np.ndarray]]
    rejected: list[list[np.ndarray]] | None = None

    @property
    def clicked(self) -> Labelled:
        """The part of these tomograms that has at least one click."""
        kept = [number for number, points in enumerate(self.points) if any(map(len, points))]
        rejected = None if self.rejected is None else [self.rejected[number] for number in kept]
        return Labelled([self.tomograms[number] for number in kept], [self.points[number] for number in kept], rejected)

    def rejected_of(self, species: int) -> list[np.ndarray]:
        """Return the rejected places of a species in each tomogram, float64 (n, 3)."""
        return [np.empty((0, 3)) if self.rejected is None else self.rejected[number][species] for number in range(len(self.tomograms))]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tomograms."""
        return tuple(t.name for t in self.tomograms)

    def count(self, species: int) -> int:
        """Return the number of clicks of a species."""
        return sum(len(p[species]) for p in self.points)

    @property
    def total(self) -> int:
        """Number of clicks of all species."""
        return sum(len(points) for own in self.points for points in own)


@dataclass(frozen=True, slots=True)
class Training:
    """Inputs of one training.  It holds no voxels, so it can be sent to other processes.

    Parameters
    ----------
    settings
        The part of the configuration that strategies see.
    labelled
        Tomograms with clicks to learn from.
    validation
        Tomograms with validation clicks, which choose the best epoch; None: there are none.
    level
        Pyramid level that is read.
    spacing
        Voxel spacing of level 0, in angstrom.
    fingerprint
        The settings and data that decide the model.
    buffer_bytes
        Size of the buffer of voxels of a process, in bytes.
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
        """Return a training without tomograms, enough to make an untrained model for planning."""
        return cls(settings, Labelled([], []), None, level, spacing, {}, 0)

    @property
    def level_spacing(self) -> float:
        """Voxel spacing of the level that is read, in angstrom."""
        return float(self.spacing * 2**self.level)

    @property
    def radii_vox(self) -> list[float]:
        """Radii of the species, in voxels of the level."""
        return [s.radius.in_voxels(self.spacing) / 2**self.level for s in self.settings.species]

    @property
    def radii_ang(self) -> tuple[float, ...]:
        """Radii of the species, in angstrom."""
        return tuple(s.radius.in_angstrom(self.spacing) for s in self.settings.species)

    @property
    def given_label_radius_vox(self) -> float | None:
        """Radius of the labels in voxels of the level, if the configuration gives it."""
        given = self.settings.train.label_radius
        return None if given is None else given.in_voxels(self.spacing) / 2**self.level

    @property
    def species_names(self) -> tuple[str, ...]:
        """Names of the species, in the order of the outputs."""
        return tuple(s.name for s in self.settings.species)
