"""Which file format is this, which code reads and writes it, and what goes into one file?

A format is a pair of functions on a `Particles` table and `Conversion`, the facts that a change of units or origin needs (`table_format`);
those that are installed are found by name (`catalogued`).  What is not given is never guessed: the format that needs it refuses and names
the option.

Some formats hold one tomogram or one species per file.  What does not fit into one file goes into a folder, `FOLDER/TOMOGRAM.ending`, or
`FOLDER/SPECIES/TOMOGRAM.ending` if there are several species, and is read back from there.

Everything that is read passes `checks.checked`, and everything that is written the same checks.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from tomostream.errors import InputError
from tomostream.formats.catalogued import FORMATS, recognised, table_endings, working_formats
from tomostream.formats.checks import check_names, checked
from tomostream.formats.conversion import Conversion, file_tomogram
from tomostream.formats.lists import listed_tables
from tomostream.formats.positions import check_finite
from tomostream.formats.table_format import TableFormat
from tomostream.particles import Particles
from tomostream.remote.copies import local_result, local_table
from tomostream.remote.path_kinds import Kind, Wanted, instead, kind_at
from tomostream.remote.places import Place, RemotePath, place

__all__ = [
    "FORMATS",
    "Conversion",
    "file_name",
    "file_tomogram",
    "folder_tables",
    "format_of",
    "format_to_read",
    "read_table",
    "recognised",
    "refuse_shared",
    "table_endings",
    "working_formats",
    "write_table",
]


def format_of(path: Path, name: str | None = None) -> str:
    """Return the format's name: the given one, or the one of the file's ending.

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
    formats = working_formats()
    for known, form in formats.items():
        if ending in form.known_by:
            return known
    sharing = [known for known, form in formats.items() if ending == form.ending]
    raise InputError(
        f"{path}: its ending does not identify its format; name it ({', '.join(sharing or FORMATS)}) with --format (evaluate: --picks-format, "
        "--truth-format); for other commands, import the table first: tomostream import FILE --format F -o PICKS.csv"
    )


def format_to_read(path: Path, name: str | None = None) -> str:
    """Return the format in which `read_table` reads a table: the given one, or what the file, the folder or all its files are recognised as.

    Raises
    ------
    InputError
        If the name is unknown, or neither the content nor the ending says what it is.
    """
    if name is None and (known := recognised(path) or _of_files_in(path)) is not None:
        return known
    try:
        return format_of(path, name)
    except InputError:
        if name is None and (other := instead(path, Wanted.TABLE)) is not None:
            raise InputError(other) from None
        raise


def _of_files_in(folder: Path) -> str | None:
    """The format of a folder's tables, as `write_table` leaves them, if their endings tell it; None if not, or if they are of several."""
    if kind_at(folder) is not Kind.FOLDER:
        return None
    names = [path.name.lower() for pattern in ("*", "*/*") for path in folder.glob(pattern) if not path.name.startswith(".")]
    found = [known for known, form in working_formats().items() if any(name.endswith(form.known_by) for name in names)]
    return found[0] if len(found) == 1 else None


def read_table(path: str | Place, *, format_name: str | None = None, conversion: Conversion | None = None) -> Particles:
    """Read particles from a file of any known format, or from a folder of such files (named by `format_name`).

    Raises
    ------
    InputError
        If the file is missing, broken, of an unknown format, or needs a fact that `conversion` lacks.
    """
    where = place(path)
    if isinstance(path, str) and not where.exists() and (listed := listed_tables(path)) is not None:
        return Particles.concatenate([read_table(file, format_name=listed[0], conversion=conversion) for file in listed[1]])
    if isinstance(where, RemotePath):
        with local_table(where) as copy:
            return read_table(copy, format_name=format_name, conversion=conversion)
    path = where
    conversion = conversion or Conversion()
    found = format_to_read(path, format_name)
    if not path.exists():
        raise InputError(f"table {path} does not exist")
    if not FORMATS[found].headerless and (conversion.columns is not None or conversion.unit is not None):
        allowed = ", ".join(name for name, form in working_formats().items() if form.headerless)
        raise InputError(
            f"{path}: --columns and --unit are for tables without a header ({allowed}), but {found} names its columns itself; leave them out"
        )
    if path.is_dir() and not FORMATS[found].whole_folders:
        return _read_folder(path, found, conversion)
    return _read_file(path, found, conversion)


def _read_file(path: Path, found: str, conversion: Conversion) -> Particles:
    return checked(FORMATS[found].read(path, conversion), conversion, str(path))


def folder_tables(folder: Place, found: str) -> list[tuple[Place, str | None]]:
    """List the tables of a folder that `write_table` may have written, with the species of those in a folder SPECIES.

    Raises
    ------
    InputError
        If there is none.
    """
    ending = FORMATS[found].ending
    files = sorted(p for pattern in (f"*{ending}", f"*/*{ending}") for p in folder.glob(pattern) if not p.name.startswith("."))
    if not files:
        raise InputError(f"folder {folder} holds no {ending} file, and no folders SPECIES with such files")
    return [(file, None if file.parent == folder else file.parent.name) for file in files]


def refuse_shared(holder: dict[tuple[str, str], Place], table: Place, part: Particles) -> None:
    """Record which table holds which species of which tomogram; refuse a second one.

    Raises
    ------
    InputError
        If another table of `holder` has it: two answers to one question are not joined.
    """
    for name, species in dict.fromkeys(zip(part.tomogram.tolist(), part.species.tolist(), strict=True)):
        if (other := holder.setdefault((name, species), table)) is not table:
            raise InputError(f"{other} and {table} both hold picks of '{species}' in tomogram '{name}'; keep one of them")


def _read_folder(folder: Path, found: str, conversion: Conversion) -> Particles:
    tables = folder_tables(folder, found)
    if conversion.tomogram is not None and len(tables) > 1:
        raise InputError(f"folder {folder} holds {len(tables)} {FORMATS[found].ending} files; --tomogram can name the tomogram of one")
    parts: list[Particles] = []
    holder: dict[tuple[str, str], Place] = {}
    for file, species in tables:
        part = _read_file(Path(str(file)), found, conversion if species is None else replace(conversion, only_species=species))
        if part.tomograms() == [""]:
            part = part.named(tomogram=file_tomogram(file, conversion))
        refuse_shared(holder, file, part)
        parts.append(part)
    return Particles.concatenate(part for part in parts if len(part) or len(parts) == 1)


def write_table(path: str | Place, particles: Particles, *, format_name: str | None = None, conversion: Conversion | None = None) -> None:
    """Write particles to a file of any known format, completely or not at all; or to a folder, one file per tomogram (and species).

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
    check_finite(particles.position_zyx, f"{path} can't be written")
    check_names((*particles.tomograms(), *particles.species_names()), f"{path} can't be written")
    if particles.has_negatives and not form.labelled:
        conversion.progress.warn(f"{path}: {found} can't hold negative labels; {len(particles.negatives())} rows labelled 0 are left out")
        particles = particles.positives()
    surplus = [
        f"one {what} per file, here are {', '.join(names)}"
        for what, is_one, names in (
            ("tomogram", form.one_tomogram, particles.tomograms()),
            ("species", form.one_species, particles.species_names()),
        )
        if is_one and len(names) > 1
    ]
    conversion = replace(conversion, classes=particles.species_names())
    if form.numbers_species and len(conversion.classes) > 1:
        numbered = ", ".join(f"{i} {name or '(no name)'}" for i, name in enumerate(conversion.classes, 1))
        conversion.progress.say(f"{path}: the classes are {numbered}")
    if form.whole_folders or not (is_folder or (surplus and not path.suffix)):
        if surplus:
            hint = "choose one with --species, or give a folder" if "species" in surplus[0] else "give a folder"
            raise InputError(f"{path}: {found} holds {' and '.join(surplus)}; {hint} (a name that ends with /)")
        _write_whole(path, particles, form, conversion)
        return
    several = len(particles.species_names()) > 1 and form.one_species
    files: list[tuple[Path, Particles]] = []
    for name, here in particles.by_tomogram():
        for species, rows in here.by_species() if several else [(None, here)]:
            parent = path / file_name(species, "species") if species is not None else path
            files.append((parent / f"{file_name(name, 'tomogram')}{form.ending}", rows))
    for target, rows in files:  # only now: all names are known to be good
        _write_whole(target, rows, form, conversion)


def file_name(name: str, what: str) -> str:
    """Return a name for a file or folder; refuse one that leads elsewhere.

    Raises
    ------
    InputError
        If it can't be; `what` says what it names.
    """
    if name in ("", ".", "..") or "/" in name or "\\" in name or os.sep in name:
        raise InputError(f"'{name}' can't be a file's name, so this {what} can't have its own file; rename it in the table")
    return name


def _write_whole(path: Path, particles: Particles, form: TableFormat, conversion: Conversion) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        form.write(path, particles, conversion)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}; choose another folder, or free some space") from None
