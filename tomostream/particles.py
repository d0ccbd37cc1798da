"""The one table of particles: where, which species, in which tomogram, how sure.

Positions are voxel centres counted from the volume's corner: voxel i lies at i, or at i * spacing angstrom.  Inside the package
arrays are ordered z, y, x; the tables on disk name their columns x, y, z, and `tomostream.formats` is the one place that converts.
The unit travels with the positions, so that voxels and angstrom are never confused.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tomostream.errors import InputError

Unit = Literal["voxel", "angstrom"]


@dataclass(frozen=True, slots=True, eq=False)
class Particles:
    """A table of n particles.

    Parameters
    ----------
    position_zyx
        float64 (n, 3), in `unit`, from the volume's corner.
    unit
        `voxel` (of the full-resolution grid) or `angstrom`.
    tomogram, species
        str arrays (n,): the tomogram's name and the species' name; empty strings where the source has none.
    score
        float64 (n,); NaN where the source has none.
    """

    position_zyx: np.ndarray
    unit: Unit
    tomogram: np.ndarray
    species: np.ndarray
    score: np.ndarray

    @classmethod
    def build(
        cls,
        position_zyx: np.ndarray | Sequence[Sequence[float]],
        *,
        unit: Unit,
        tomogram: str | Sequence[str] | np.ndarray = "",
        species: str | Sequence[str] | np.ndarray = "",
        score: float | Sequence[float] | np.ndarray = np.nan,
    ) -> "Particles":
        """Make a table; single values of `tomogram`, `species` and `score` stand for all rows."""
        positions = np.ascontiguousarray(np.asarray(position_zyx, dtype=np.float64).reshape(-1, 3))
        n = len(positions)
        return cls(
            positions,
            unit,
            np.array(np.broadcast_to(np.asarray(tomogram, dtype=object), (n,))),
            np.array(np.broadcast_to(np.asarray(species, dtype=object), (n,))),
            np.array(np.broadcast_to(np.asarray(score, dtype=np.float64), (n,))),
        )

    @classmethod
    def concatenate(cls, tables: Iterable["Particles"], unit: Unit = "angstrom") -> "Particles":
        """Join tables of one unit, in order (`unit` serves only when there is none)."""
        parts = list(tables)
        if not parts:
            return cls.build(np.empty((0, 3)), unit=unit)
        if len({part.unit for part in parts}) > 1:
            raise InputError("particle tables in voxels and in angstrom can't be joined; convert them with the voxel spacing first")
        return cls(
            np.concatenate([p.position_zyx for p in parts]),
            parts[0].unit,
            np.concatenate([p.tomogram for p in parts]),
            np.concatenate([p.species for p in parts]),
            np.concatenate([p.score for p in parts]),
        )

    def __len__(self) -> int:
        return len(self.position_zyx)

    def select(self, keep: np.ndarray) -> "Particles":
        """The rows chosen by a boolean mask or by indices, in that order."""
        return Particles(self.position_zyx[keep], self.unit, self.tomogram[keep], self.species[keep], self.score[keep])

    def of(self, *, tomogram: str | None = None, species: str | None = None) -> "Particles":
        """The rows of one tomogram and/or one species."""
        keep = np.ones(len(self), dtype=bool)
        if tomogram is not None:
            keep &= self.tomogram == tomogram
        if species is not None:
            keep &= self.species == species
        return self.select(keep)

    def tomograms(self) -> list[str]:
        """The tomograms' names, each once, in order of first appearance."""
        return list(dict.fromkeys(self.tomogram.tolist()))

    def species_names(self) -> list[str]:
        """The species' names, each once, in order of first appearance."""
        return list(dict.fromkeys(self.species.tolist()))

    def in_unit(self, unit: Unit, spacing: float | None) -> "Particles":
        """The same particles in the other unit, for voxels of `spacing` angstrom.

        Raises
        ------
        InputError
            If a conversion is needed and `spacing` is None.
        """
        if unit == self.unit:
            return self
        if spacing is None:
            raise InputError(
                f"these positions are in {self.unit}s and are needed in {unit}s; give the tomograms or the voxel size (angstrom)"
            )
        factor = spacing if unit == "angstrom" else 1.0 / spacing
        return replace(self, position_zyx=self.position_zyx * factor, unit=unit)

    def named(self, *, tomogram: str | None = None, species: str | None = None) -> "Particles":
        """Fill in the rows' empty tomogram or species names."""
        names = np.where(self.tomogram == "", tomogram, self.tomogram) if tomogram is not None else self.tomogram
        kinds = np.where(self.species == "", species, self.species) if species is not None else self.species
        return replace(self, tomogram=names, species=kinds)
