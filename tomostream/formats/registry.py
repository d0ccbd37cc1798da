"""Which file format is this, who reads and writes it, and what goes into one file?

A format is a pair of functions on a `Particles` table and `Conversion`, the facts that a change of units or origin needs.  What is not
given is never guessed: the format that needs it refuses and names the option.

Some formats hold one tomogram or one species a file.  What does not fit into one file goes into a folder, `FOLDER/TOMOGRAM.ending`, or
`FOLDER/SPECIES/TOMOGRAM.ending` if there are several species, and is read back from there.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tomostream.errors import InputError
from tomostream.geometry import Triple
from tomostream.particles import Particles, Unit
from tomostream.remote.copies import local_result, local_table
from tomostream.remote.places import Place, RemotePath, place
from tomostream.store.naming import tomogram_name
from tomostream.units import Length


class _Format(NamedTuple):
    """A format.

    Parameters
    ----------
    module
        Of `tomostream.formats`, with `read(path, conversion)` and `write(path, particles, conversion)`.
    ending
        Of its files.
    known_by
        Endings that tell this format; none where several formats share one.
    one_tomogram, one_species
        Whether a file holds only one.
    """

    module: str
    ending: str
    known_by: tuple[str, ...]
    one_tomogram: bool = False
    one_species: bool = False


FORMATS: dict[str, _Format] = {
    "csv": _Format("csv_table", ".csv", (".csv", ".txt", ".tsv")),
    "parquet": _Format("parquet", ".parquet", (".parquet",)),
    "star-relion4": _Format("star_relion4", ".star", (), one_species=True),
    "star-relion5": _Format("star_relion5", ".star", (), one_species=True),
    "star-tomogram-pixels": _Format("star_tomogram_pixels", ".star", (), one_species=True),
    "copick": _Format("copick_picks", ".json", (".json",)),
    "portal-ndjson": _Format("portal_ndjson", ".ndjson", (".ndjson",), one_tomogram=True, one_species=True),
    "cbox": _Format("cbox", ".cbox", (".cbox",), one_tomogram=True, one_species=True),
    "coords": _Format("coords", ".coords", (".coords",), one_tomogram=True),
    "napari": _Format("napari_points", ".csv", (), one_tomogram=True, one_species=True),
    "cmm": _Format("cmm", ".cmm", (".cmm",), one_tomogram=True),
    "imod": _Format("imod", ".mod", (".mod",), one_tomogram=True),
    "dynamo": _Format("dynamo", ".tbl", (".tbl",), one_species=True),
    "em": _Format("em_motl", ".em", (".em",), one_tomogram=True, one_species=True),
}
_HEAD_BYTES = 65536  # in which the columns of a STAR file are named
# endings of the tables that a folder is searched for
TABLE_ENDINGS = tuple(dict.fromkeys(ending for known in FORMATS.values() for ending in (known.ending, *known.known_by)))


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
    unbinned_pixel, binning
        Pixel size of the tilt series in angstrom, or how often larger the tomograms' voxels are.
    box
        Edge of the boxes in formats that draw some.
    """

    spacings: dict[str, float] = field(default_factory=dict)
    shapes: dict[str, Triple] = field(default_factory=dict)
    spacing: float | None = None
    shape: Triple | None = None
    tomogram: str | None = None
    species: str | None = None
    columns: Sequence[str] | None = None
    unit: Unit | None = None
    unbinned_pixel: float | None = None
    binning: float | None = None
    box: Length | None = None

    @property
    def knows_unbinned_pixel(self) -> bool:
        """Whether the caller said the tilt series' pixel size, in either way."""
        return self.unbinned_pixel is not None or self.binning is not None

    def unbinned_pixel_of(self, tomogram: str, why: str) -> float:
        """Return the pixel size of a tomogram's tilt series (angstrom).

        Raises
        ------
        InputError
            If it is not known, or told twice; `why` says what needs it.
        """
        if self.unbinned_pixel is not None and self.binning is not None:
            raise InputError("give --unbinned-pixel-size or --binning, not both")
        if self.unbinned_pixel is not None:
            return self.unbinned_pixel
        if self.binning is not None:
            return self.spacing_of(tomogram, f"{why} with --binning") / self.binning
        raise InputError(
            f"{why} needs the pixel size of the tilt series of '{tomogram}'; give --unbinned-pixel-size ANGSTROM or --binning N"
        )

    def box_of(self, tomogram: str, why: str) -> float:
        """Return the edge of the boxes in voxels of a tomogram.

        Raises
        ------
        InputError
            If it is not known; `why` says what needs it.
        """
        if self.box is None:
            raise InputError(f"{why} needs the edge of its boxes; give --box-size LENGTH, as 32vox or 270A")
        return self.box.value if self.box.is_voxels else self.box.in_voxels(self.spacing_of(tomogram, f"{why} with a box in angstrom"))

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


def file_tomogram(path: Place, conversion: Conversion) -> str:
    """Name the tomogram of a file that does not name it: as the caller says, or as the file is called."""
    return conversion.tomogram or tomogram_name(path.stem)


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
    ending = path.suffix.lower()
    for known, form in FORMATS.items():
        if ending in form.known_by:
            return known
    sharing = [known for known, form in FORMATS.items() if ending == form.ending]
    raise InputError(
        f"{path}: its ending does not tell its format; name it ({', '.join(sharing or FORMATS)}) with --format, evaluate: --picks-format, "
        "--truth-format; where a command has none, make a table of ours first: tomostream import FILE --format F -o PICKS.csv"
    )


def _format_to_read(path: Path, name: str | None) -> str:
    if name is None and path.suffix.lower() == ".star" and path.is_file():
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
        except OSError as error:
            raise InputError(f"table {path} can't be read: {error.strerror}") from None
        if b"_rlnCenteredCoordinateXAngst" in head:  # no other format has that column
            return "star-relion5"
    return format_of(path, name)


def read_table(path: str | Place, *, format_name: str | None = None, conversion: Conversion | None = None) -> Particles:
    """Read particles from a file of any known format, or from a folder of such files (named by `format_name`).

    Raises
    ------
    InputError
        If the file is missing, broken, of an unknown format, or needs a fact that `conversion` lacks.
    """
    where = place(path)
    if isinstance(where, RemotePath):
        with local_table(where) as copy:
            return read_table(copy, format_name=format_name, conversion=conversion)
    path = where
    conversion = conversion or Conversion()
    found = _format_to_read(path, format_name)
    if not path.exists():
        raise InputError(f"table {path} does not exist")
    read: Callable[[Path, Conversion], Particles] = _module(found).read
    if path.is_dir() and found != "copick":
        return _read_folder(path, found, read, conversion)
    return read(path, conversion).named(tomogram=conversion.tomogram, species=conversion.species)


def _read_folder(folder: Path, found: str, read: Callable[[Path, Conversion], Particles], conversion: Conversion) -> Particles:
    ending = FORMATS[found].ending
    files = sorted(p for pattern in (f"*{ending}", f"*/*{ending}") for p in folder.glob(pattern) if not p.name.startswith("."))
    if not files:
        raise InputError(f"folder {folder} holds no {ending} file, nor has it folders SPECIES with any")
    if conversion.tomogram is not None and len(files) > 1:
        raise InputError(f"folder {folder} holds {len(files)} {ending} files; --tomogram can name the tomogram of one")
    parts = []
    for file in files:
        species = conversion.species if file.parent == folder else file.parent.name
        parts.append(read(file, conversion).named(tomogram=conversion.tomogram, species=species))
    return Particles.concatenate(part for part in parts if len(part) or len(parts) == 1)


def write_table(path: str | Place, particles: Particles, *, format_name: str | None = None, conversion: Conversion | None = None) -> None:
    """Write particles to a file of any known format, whole or not at all; or to a folder, one file a tomogram (and species).

    It is a folder if it exists as one, its name ends with a slash, or it has no ending and what is written does not fit into one file.

    Raises
    ------
    InputError
        If the format needs a fact that `conversion` lacks, one file can't hold this, or it can't be written.
    """
    where = place(path)
    if isinstance(where, RemotePath):
        with local_result(where) as copy:
            write_table(f"{copy}/" if str(path).endswith("/") else copy, particles, format_name=format_name, conversion=conversion)
        return
    is_folder = str(path).endswith(("/", os.sep)) or where.is_dir()
    path = where
    conversion = conversion or Conversion()
    found = format_of(path, format_name)
    form = FORMATS[found]
    surplus = [
        f"one {what} a file, here are {', '.join(names)}"
        for what, is_one, names in (
            ("tomogram", form.one_tomogram, particles.tomograms()),
            ("species", form.one_species, particles.species_names()),
        )
        if is_one and len(names) > 1
    ]
    write: Callable[[Path, Particles, Conversion], None] = _module(found).write
    if found == "copick" or not (is_folder or (surplus and not path.suffix)):
        if surplus:
            hint = "choose one with --species, or give a folder" if "species" in surplus[0] else "give a folder"
            raise InputError(f"{path}: {found} holds {' and '.join(surplus)}; {hint} (a name that ends with /)")
        _write_whole(path, particles, write, conversion)
        return
    several = len(particles.species_names()) > 1 and form.one_species
    for name in particles.tomograms():
        here = particles.of(tomogram=name)
        for species in here.species_names() if several else [None]:
            parent = path / _safe(species, "species") if species is not None else path
            _write_whole(parent / f"{_safe(name, 'tomogram')}{form.ending}", here.of(species=species), write, conversion)


def _safe(name: str, what: str) -> str:
    if name in ("", ".", "..") or "/" in name or os.sep in name:
        raise InputError(f"'{name}' can't be a file's name, so this {what} can't have a file of its own; rename it in the table")
    return name


def _write_whole(path: Path, particles: Particles, write: Callable[[Path, Particles, Conversion], None], conversion: Conversion) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, particles, conversion)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}; choose another folder or free some space") from None


def _module(name: str) -> Any:
    return importlib.import_module(f"tomostream.formats.{FORMATS[name].module}")
