"""What is a table format?  Two functions, and the facts that decide what goes into one file of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomostream.formats.conversion import Conversion
from tomostream.formats.format_option import FormatOption
from tomostream.particles import Particles


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
        Endings, in lower case, that tell this format; none where several formats share one.
    one_tomogram, one_species
        Whether a file holds only one.
    labelled
        Whether a file can hold places that are no particles.
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
    options: tuple[FormatOption[Any], ...] = ()
