"""Which file format is this, and who reads and writes it?

A format is a pair of functions on a `Particles` table and `Conversion`, the facts that a change of units or origin needs.  What is not
given is never guessed: the format that needs it refuses and names the option.
"""

from __future__ import annotations

import glob
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tomostream.errors import InputError
from tomostream.formats import csv_table
from tomostream.geometry import Triple
from tomostream.particles import Particles, Unit


class _Format(NamedTuple):
    """The module of `tomostream.formats` that holds `read(path, conversion)` and `write(path, particles, conversion)`, and file endings."""

    module: str
    endings: tuple[str, ...]


FORMATS: dict[str, _Format] = {
    "csv": _Format("", (".csv", ".txt", ".tsv")),
    "parquet": _Format("parquet", (".parquet",)),
    "star-relion5": _Format("star_relion5", ()),
    "copick": _Format("copick_picks", (".json",)),
    "coords": _Format("coords", (".coords",)),
}


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a format may need to know about the tomograms.

    Parameters
    ----------
    spacings
        Voxel spacing in angstrom by tomogram's name.
    shapes
        Shape (z, y, x) in voxels by tomogram's name.
    spacing, shape
        The same for tomograms that are not named.
    tomogram, species
        The name of the tomogram or species, where the file holds none.
    columns, unit
        Of a CSV table without header.
    """

    spacings: dict[str, float] = field(default_factory=dict)
    shapes: dict[str, Triple] = field(default_factory=dict)
    spacing: float | None = None
    shape: Triple | None = None
    tomogram: str | None = None
    species: str | None = None
    columns: Sequence[str] | None = None
    unit: Unit | None = None

    def spacing_of(self, tomogram: str, why: str) -> float:
        """Return the voxel spacing of a tomogram (angstrom).

        Raises
        ------
        InputError
            If it is not known; `why` says what needs it.
        """
        spacing = self.spacings.get(tomogram, self.spacing)
        if spacing is None:
            raise InputError(f"{why} needs the voxel spacing of tomogram '{tomogram}'; give --voxel-size ANGSTROM or --tomograms ZARR...")
        return spacing

    def shape_of(self, tomogram: str, why: str) -> Triple:
        """Return the shape (z, y, x) of a tomogram in voxels.

        Raises
        ------
        InputError
            If it is not known; `why` says what needs it.
        """
        shape = self.shapes.get(tomogram, self.shape)
        if shape is None:
            raise InputError(f"{why} needs the shape of tomogram '{tomogram}'; give --shape Z,Y,X or --tomograms ZARR...")
        return shape

    def to_unit(self, particles: Particles, unit: Unit, why: str) -> Particles:
        """Convert every tomogram's particles with its own spacing; the order of the rows is kept."""
        if particles.unit == unit or len(particles) == 0:
            return particles if particles.unit == unit else Particles.concatenate([], unit=unit)
        positions = particles.position_zyx.copy()
        for name in particles.tomograms():
            rows = particles.tomogram == name
            positions[rows] = particles.select(rows).in_unit(unit, self.spacing_of(name, why)).position_zyx
        return Particles(positions, unit, particles.tomogram, particles.species, particles.score)


def format_of(path: Path, name: str | None = None) -> str:
    """Name the format: the one asked for, or the one that the file's ending tells.

    Raises
    ------
    InputError
        If the name is unknown, or the ending says nothing.
    """
    if name is not None:
        if name not in FORMATS:
            raise InputError(f"format '{name}' is unknown; known are {', '.join(FORMATS)}")
        return name
    for known, (_, endings) in FORMATS.items():
        if path.suffix.lower() in endings:
            return known
    raise InputError(f"{path}: its ending does not tell its format; name it with --format ({', '.join(FORMATS)})")


def read_table(path: str | Path, *, format_name: str | None = None, conversion: Conversion | None = None) -> Particles:
    """Read particles from a file of any known format.

    Raises
    ------
    InputError
        If the file is missing, broken, of an unknown format, or needs a fact that `conversion` lacks.
    """
    path = Path(path)
    conversion = conversion or Conversion()
    found = format_of(path, format_name)
    if found == "csv":
        particles = csv_table.read_csv(path, columns=conversion.columns, unit=conversion.unit)
    else:
        if not path.exists():
            raise InputError(f"table {path} does not exist")
        read: Callable[[Path, Conversion], Particles] = importlib.import_module(f"tomostream.formats.{FORMATS[found].module}").read
        particles = read(path, conversion)
    return particles.named(tomogram=conversion.tomogram, species=conversion.species)


def write_table(path: str | Path, particles: Particles, *, format_name: str | None = None, conversion: Conversion | None = None) -> None:
    """Write particles to a file of any known format, whole or not at all.

    Raises
    ------
    InputError
        If the format needs a fact that `conversion` lacks, or the file can't be written.
    """
    path = Path(path)
    conversion = conversion or Conversion()
    found = format_of(path, format_name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if found == "csv":
            text = csv_table.csv_text(conversion.to_unit(particles, "angstrom", "a picks table in angstrom"))
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.write_text(text)
            temporary.replace(path)
        else:
            write: Callable[[Path, Particles, Conversion], None] = importlib.import_module(
                f"tomostream.formats.{FORMATS[found].module}"
            ).write
            write(path, particles, conversion)
    except OSError as error:
        for unfinished in path.parent.glob(f".{glob.escape(path.name)}.tmp*"):  # as the formats name what they write before the renaming
            unfinished.unlink()
        raise InputError(f"{path} can't be written: {error.strerror or error}; choose another folder or free some space") from None
