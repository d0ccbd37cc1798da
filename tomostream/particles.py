"""The one table of particles: where, which species, in which tomogram, how sure.

Positions are voxel centres counted from the volume's corner: voxel i lies at i, or at i * spacing angstrom.  Inside the package
arrays are ordered z, y, x; the tables on disk name their columns x, y, z, and `tomostream.formats` is the one place that converts.
The unit travels with the positions, so that voxels and angstrom are never confused.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from tomostream.errors import InputError
from tomostream.orientations import angles, are_rotations, known_or_none
from tomostream.particle_columns import ANGLES, Unit, of_frame

if TYPE_CHECKING:
    import pandas as pd

_AXES = ("x", "y", "z")


__all__ = ["Particles", "Unit"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
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
    label
        int8 (n,): 1 a particle, 0 a place that is none; all 1 where nothing is said.
    spacings
        Edge of a voxel in angstrom, by tomogram, if the table's maker knew it (`pick` does); then the unit can be changed.
    rotation
        float64 (n, 3, 3) on x, y, z, from the reference to the tomogram (`tomostream.orientations`); NaN where one is not known, None where
        none is.
    """

    position_zyx: np.ndarray
    unit: Unit
    tomogram: np.ndarray
    species: np.ndarray
    score: np.ndarray
    label: np.ndarray = field(default=None)  # type: ignore[arg-type]  # set below, where the number of rows is known
    spacings: Mapping[str, float] = field(default_factory=dict)
    rotation: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.label is None:
            object.__setattr__(self, "label", np.ones(len(self.position_zyx), np.int8))

    @classmethod
    def build(
        cls,
        position_zyx: np.ndarray | Sequence[Sequence[float]],
        *,
        unit: Unit,
        tomogram: str | Sequence[str] | np.ndarray = "",
        species: str | Sequence[str] | np.ndarray = "",
        score: float | Sequence[float] | np.ndarray = np.nan,
        label: int | Sequence[int] | np.ndarray = 1,
        spacings: Mapping[str, float] | None = None,
        rotation: np.ndarray | None = None,
    ) -> "Particles":
        """Make a table; single values of `tomogram`, `species`, `score` and `label` stand for all rows.

        Raises
        ------
        InputError
            If the unit is unknown, the positions are not (n, 3) numbers, a column has not one or n values, a label is neither 0 nor 1, or the rotations are not (n, 3, 3).
        """
        if unit not in ("voxel", "angstrom"):
            raise InputError(f"the unit of positions must be 'voxel' or 'angstrom', found {unit!r}")
        positions = number_array(position_zyx, "position_zyx")
        if positions.size and (positions.ndim != 2 or positions.shape[1] != 3):
            raise InputError(f"position_zyx must have the shape (n, 3), a row z, y, x for each particle; found {positions.shape}")
        positions = np.ascontiguousarray(positions.reshape(-1, 3))
        n = len(positions)
        labels = _each(np.asarray(label), n, "label")
        if not np.isin(labels, (0, 1)).all():
            raise InputError(f"a label must be 1 (a particle) or 0 (a place that is none), found {labels[~np.isin(labels, (0, 1))][0]}")
        return cls(
            positions,
            unit,
            _each(np.asarray(tomogram, dtype=object), n, "tomogram"),
            _each(np.asarray(species, dtype=object), n, "species"),
            _each(number_array(score, "score"), n, "score"),
            labels.astype(np.int8),
            dict(spacings or {}),
            None if rotation is None else known_or_none(cls._rotations(rotation, n)),
        )

    @staticmethod
    def _rotations(rotation: np.ndarray, count: int) -> np.ndarray:
        found = np.array(rotation, dtype=np.float64)
        if found.shape != (count, 3, 3):
            raise InputError(f"rotations must have the shape ({count}, 3, 3), a matrix for each particle; found {found.shape}")
        if not are_rotations(found[known := np.isfinite(found).all(axis=(1, 2))]).all():
            raise InputError(f"particle {np.flatnonzero(known)[~are_rotations(found[known])][0] + 1}: its matrix is no rotation")
        return found

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
            np.concatenate([p.label for p in parts]),
            {name: spacing for part in parts for name, spacing in part.spacings.items()},
            None
            if all(p.rotation is None for p in parts)
            else np.concatenate([np.full((len(p), 3, 3), np.nan) if p.rotation is None else p.rotation for p in parts]),
        )

    @classmethod
    def from_dataframe(cls, table: "pd.DataFrame", *, where: str = "the data frame") -> "Particles":
        """Make a table of a pandas one with the columns of our CSV (positions in `x_angstrom`, ... or `x_voxel`, ...).

        Raises
        ------
        InputError
            If the positions' columns are missing or ambiguous, or a value can't be.
        """
        return cls.build(**of_frame(table, where))

    def to_dataframe(self) -> "pd.DataFrame":
        """As a pandas table: `tomogram, species, x_angstrom, y_angstrom, z_angstrom, score` (or `x_voxel`, ...).

        Besides, where there are any: `rot_degree, tilt_degree, psi_degree` (RELION's angles), and `label` if one is 0.
        """
        import pandas as pd  # noqa: PLC0415  (takes longer to import than all else here)

        columns: dict[str, np.ndarray] = {"tomogram": self.tomogram, "species": self.species}
        columns |= {f"{name}_{self.unit}": self.position_zyx[:, axis] for name, axis in zip(_AXES, (2, 1, 0), strict=True)}
        columns["score"] = self.score
        if self.rotation is not None:
            columns |= dict(zip(ANGLES, angles(self.rotation, "relion").T, strict=True))
        if self.has_negatives:
            columns["label"] = self.label
        return pd.DataFrame(columns).astype({"tomogram": "str", "species": "str"})

    def __len__(self) -> int:
        return len(self.position_zyx)

    def __repr__(self) -> str:
        def told(names: list[str]) -> str:
            named = [name or "(no name)" for name in names]
            return ", ".join(named) if len(named) <= 3 else f"{', '.join(named[:2])}, ... {named[-1]} ({len(named)})"

        negatives = f", {np.count_nonzero(self.label == 0)} of them labelled 0" if self.has_negatives else ""
        scores = self.score[~np.isnan(self.score)]
        scored = f"; scores {scores.min():.3g} to {scores.max():.3g}" if len(scores) else ""
        where = f" of {told(self.species_names())} in {told(self.tomograms())}" if len(self) else ""
        return f"<{len(self)} particles{negatives}{where}, positions in {self.unit}s{scored}>"

    def select(self, keep: np.ndarray) -> "Particles":
        """The rows chosen by a boolean mask or by indices, in that order."""
        return replace(
            self,
            position_zyx=self.position_zyx[keep],
            tomogram=self.tomogram[keep],
            species=self.species[keep],
            score=self.score[keep],
            label=self.label[keep],
            rotation=None if self.rotation is None else self.rotation[keep],
        )

    @property
    def has_negatives(self) -> bool:
        """Whether a row is labelled 0: a place that is no particle."""
        return not self.label.all()

    def positives(self) -> "Particles":
        """The particles: the rows labelled 1."""
        return self.select(self.label == 1) if self.has_negatives else self

    def negatives(self) -> "Particles":
        """The places that are no particles: the rows labelled 0."""
        return self.select(self.label == 0)

    def of(self, *, tomogram: str | None = None, species: str | None = None) -> "Particles":
        """The rows of one tomogram and/or one species."""
        keep = np.ones(len(self), dtype=bool)
        if tomogram is not None:
            keep &= self.tomogram == tomogram
        if species is not None:
            keep &= self.species == species
        return self.select(keep)

    def by_tomogram(self) -> Iterator[tuple[str, "Particles"]]:
        """Each tomogram's rows, in order of first appearance; one pass, however many tomograms there are."""
        return self._groups(self.tomogram)

    def by_species(self) -> Iterator[tuple[str, "Particles"]]:
        """Each species' rows, in order of first appearance."""
        return self._groups(self.species)

    def _groups(self, names: np.ndarray) -> Iterator[tuple[str, "Particles"]]:
        rows: dict[str, list[int]] = {}
        for i, name in enumerate(names.tolist()):
            rows.setdefault(name, []).append(i)
        for name, chosen in rows.items():
            yield name, self.select(np.array(chosen))

    def tomograms(self) -> list[str]:
        """The tomograms' names, each once, in order of first appearance."""
        return list(dict.fromkeys(self.tomogram.tolist()))

    def species_names(self) -> list[str]:
        """The species' names, each once, in order of first appearance."""
        return list(dict.fromkeys(self.species.tolist()))

    def in_unit(self, unit: Unit, spacing: float | None = None) -> "Particles":
        """The same particles in the other unit, for voxels of `spacing` angstrom (None: of the table's own spacings).

        Raises
        ------
        InputError
            If a conversion is needed and `spacing` is not known.
        """
        if unit == self.unit:
            return self
        if spacing is None:
            known = [self.spacings.get(name) for name in self.tomogram.tolist()]
            if all(one is not None for one in known):
                each = np.array(known, dtype=np.float64).reshape(-1, 1)
                return replace(self, position_zyx=self.position_zyx * (each if unit == "angstrom" else 1.0 / each), unit=unit)
            raise InputError(
                f"these positions are in {self.unit}s and are needed in {unit}s; give the voxel size in angstrom: `voxel_size` (or `tomograms`) where the "
                f"table is read, or particles.in_unit('{unit}', VOXEL_SIZE)"
            )
        factor = spacing if unit == "angstrom" else 1.0 / spacing
        return replace(self, position_zyx=self.position_zyx * factor, unit=unit)

    def named(self, *, tomogram: str | None = None, species: str | None = None) -> "Particles":
        """Fill in the rows' empty tomogram or species names."""
        names = np.where(self.tomogram == "", tomogram, self.tomogram) if tomogram is not None else self.tomogram
        kinds = np.where(self.species == "", species, self.species) if species is not None else self.species
        return replace(self, tomogram=names, species=kinds)

    def renamed(self, tomograms: dict[str, str]) -> "Particles":
        """With other names of tomograms; those that are not given stay."""
        if all(old == new for old, new in tomograms.items()):
            return self
        names = np.array([tomograms.get(name, name) for name in self.tomogram.tolist()], dtype=object)
        return replace(self, tomogram=names, spacings={tomograms.get(name, name): spacing for name, spacing in self.spacings.items()})


def number_array(values: object, what: str) -> np.ndarray:
    """Return numbers as float64.

    Raises
    ------
    InputError
        If they are text, a table, a generator, or rows of several lengths.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} must be an array or a list of numbers, found {type(values).__name__} ({error}); a data frame: Particles.from_dataframe(table)"
        ) from None


def _each(values: np.ndarray, count: int, what: str) -> np.ndarray:
    """Return one value for each particle; a single one stands for all."""
    if values.ndim and values.shape not in {(count,), (1,)}:
        raise InputError(f"{what} must be one value, or one for each of {count} particles; found the shape {values.shape}")
    return np.array(np.broadcast_to(values, (count,)))
