"""What is a table format?  Two functions, and the facts that decide what goes into one file of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomostream.formats.conversion import Conversion
from tomostream.formats.format_option import FormatOption
from tomostream.particles import Particles
from tomostream.remote.places import Place


def nothing_listed(text: str) -> None:
    """Return None: no text means files of this format."""


def nothing_recognised(path: Place) -> bool:
    """Return False: this format is known only by its ending or its name."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFormat:
    """A table format: the object of an entry point in the group `tomostream.formats`, whose name is given to `--format`.

    Its module is imported by every command, for its endings and options, so slow imports belong into the functions.

    Parameters
    ----------
    read
        Reads a file (or what the format calls one), in any unit; raises an InputError for what it can't read.
    write
        Writes particles, completely or not at all.
    ending
        Of its files, such as `.csv`.
    known_by
        Endings, in lower case, by which this format is recognised; none if several formats share one.
    one_tomogram, one_species
        Whether a file holds only one.
    labelled
        Whether a file can hold places that are no particles.
    recognises
        Whether what lies at a path is of this format although its ending does not show it: a folder, or a file by its first bytes.
    whole_folders
        Whether a folder is one table, which `read` and `write` take whole; otherwise a folder is one of many files.
    headerless
        Whether a file may lack the names of its columns; then `Conversion.columns` and `unit` say them.
    numbers_species
        Whether a file holds numbers for several species, counted from 1 in the order of `Conversion.classes`; the user is told which is which.
    listed_tables, listed_volumes
        The tables, or tomograms, that a text means which names a list of them and perhaps a choice, such as `PROJECT.json:ribosome`; None for
        any other text.
    options
        Those that it adds to the commands; `Conversion.given` has their values.
    """

    read: Callable[[Path, Conversion], Particles]
    write: Callable[[Path, Particles, Conversion], None]
    ending: str
    known_by: tuple[str, ...] = ()
    one_tomogram: bool = False
    one_species: bool = False
    labelled: bool = False
    recognises: Callable[[Place], bool] = nothing_recognised
    whole_folders: bool = False
    headerless: bool = False
    numbers_species: bool = False
    listed_tables: Callable[[str], list[str] | None] = nothing_listed
    listed_volumes: Callable[[str], list[str] | None] = nothing_listed
    options: tuple[FormatOption[Any], ...] = ()
