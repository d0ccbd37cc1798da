"""What is needed to convert units, origins or names?  The facts that a caller gives about the tomograms of a table.

Missing facts are never guessed: the function that needs one raises an error that names the option.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.format_option import FormatOption
from tomostream.formats.positions import check_finite
from tomostream.geometry import Triple
from tomostream.particles import Particles, Unit
from tomostream.progress import Progress
from tomostream.remote.places import Place
from tomostream.store.naming import counterpart, tomogram_name

_DECIMALS = 6
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Conversion:
    """Facts about the tomograms that a format may need.

    Parameters
    ----------
    spacings
        Voxel spacing in angstrom by tomogram's name.
    shapes
        Shape (z, y, x) in voxels by tomogram's name.
    spacing, shape
        The same for tomograms that are not named.
    tomogram, species
        What the caller calls them: it wins over the table, if that names one.
    only_tomogram, only_species
        The only ones there are, for tables that name none.
    columns, unit
        Of a CSV table without header.
    options
        Values of the formats' own options, by name.
    classes
        The species in the order in which formats number them; set where a table is written to several files.
    progress
        Receives messages for the user.
    """

    spacings: dict[str, float] = field(default_factory=dict)
    shapes: dict[str, Triple] = field(default_factory=dict)
    spacing: float | None = None
    shape: Triple | None = None
    tomogram: str | None = None
    species: str | None = None
    only_tomogram: str | None = None
    only_species: str | None = None
    columns: Sequence[str] | None = None
    unit: Unit | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    classes: Sequence[str] = ()
    progress: Progress = field(default_factory=Progress, compare=False)

    @property
    def known_tomograms(self) -> Collection[str]:
        """Return the names of the tomograms whose stores are known."""
        return self.spacings.keys() | self.shapes.keys()

    def known_spacing(self, tomogram: str) -> float | None:
        """Return the voxel spacing of a tomogram (angstrom), if it is known."""
        return self.spacings.get(counterpart(tomogram, self.spacings), self.spacing)

    def known_shape(self, tomogram: str) -> Triple | None:
        """Return the shape of a tomogram in voxels, if it is known."""
        return self.shapes.get(counterpart(tomogram, self.shapes), self.shape)

    def per_row(self, names: np.ndarray, value_of: Callable[[str], float]) -> np.ndarray:
        """Return a value for each row's tomogram, float64 (n,); computed once per tomogram."""
        known = {name: value_of(name) for name in dict.fromkeys(names.tolist())}
        return np.array([known[name] for name in names.tolist()], dtype=np.float64)

    def row_spacings(self, names: np.ndarray, why: str) -> np.ndarray:
        """Return the voxel spacing of each row's tomogram.

        Raises
        ------
        InputError
            If one is not known; `why` says what needs it.
        """
        return self.per_row(names, lambda name: self.spacing_of(name, why))

    def given(self, option: FormatOption[T]) -> T | None:
        """Return the value of a format's own option; None if it was not given."""
        return cast("T | None", self.options.get(option.name))

    def spacing_of(self, tomogram: str, why: str) -> float:
        """Return the voxel spacing of a tomogram (angstrom).

        Raises
        ------
        InputError
            If it is not known; `why` says what needs it.
        """
        spacing = self.known_spacing(tomogram)
        if spacing is None:
            raise InputError(
                f"{why} needs the voxel spacing of tomogram '{tomogram}'; give --voxel-size ANGSTROM or --tomograms ZARR...{self._given(self.spacings)}"
            )
        return spacing

    def shape_of(self, tomogram: str, why: str) -> Triple:
        """Return the shape (z, y, x) of a tomogram in voxels.

        Raises
        ------
        InputError
            If it is not known; `why` says what needs it.
        """
        shape = self.known_shape(tomogram)
        if shape is None:
            raise InputError(
                f"{why} needs the shape of tomogram '{tomogram}'; give --shape Z,Y,X or --tomograms ZARR...{self._given(self.shapes)}"
            )
        return shape

    @staticmethod
    def _given(known: Collection[str]) -> str:
        names = list(known)
        return f" (those given are named {', '.join(names[:8])}{' ...' if len(names) > 8 else ''})" if names else ""

    def to_unit(self, particles: Particles, unit: Unit, why: str) -> Particles:
        """Convert every tomogram's particles with its own spacing; the order of the rows is kept.

        Raises
        ------
        InputError
            If a spacing is not known (`why` says what needs it), or a converted position is no finite number.
        """
        if particles.unit == unit or len(particles) == 0:
            return particles if particles.unit == unit else Particles.concatenate([], unit=unit)
        own = particles.spacings
        known = self if not own else replace(self, spacings={**own, **self.spacings}) if self.spacing is None else self
        spacing = known.row_spacings(particles.tomogram, why)[:, None]
        # by the reciprocal, as `Particles.in_unit`: one position is one number wherever it is converted
        factor = spacing if unit == "angstrom" else 1.0 / spacing
        with np.errstate(over="ignore"):
            converted = particles.position_zyx * factor
        check_finite(converted, f"{why}: in {unit}s")
        return replace(particles, position_zyx=converted, unit=unit)

    def written_in(self, particles: Particles, unit: Unit, why: str) -> Particles:
        """Convert like `to_unit`, for a file: computed values are rounded (`tidy`), values that are already in this unit stay exact."""
        if particles.unit == unit:
            return particles
        found = self.to_unit(particles, unit, why)
        return replace(found, position_zyx=self.tidy(found.position_zyx))

    @staticmethod
    def tidy(positions: np.ndarray) -> np.ndarray:
        """Round computed values to a millionth (of an angstrom or voxel): further digits are rounding noise."""
        return np.round(positions, _DECIMALS) + 0.0  # no -0.0


def file_tomogram(path: Place, conversion: Conversion) -> str:
    """Name the tomogram of a file without a name in it: the caller's name, or the file's."""
    return conversion.tomogram or conversion.only_tomogram or tomogram_name(path.stem)
