"""What is a table format?  Two functions, and the facts that decide what goes into one file of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tomostream.formats.conversion import Conversion
from tomostream.particles import Particles


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFormat:
    """A table format: the object of an entry point in the group `tomostream.formats`, whose name is given to `--format`.

    Its module is imported whenever a format is searched by its ending, so slow imports belong into the functions.

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
    """

    read: Callable[[Path, Conversion], Particles]
    write: Callable[[Path, Particles, Conversion], None]
    ending: str
    known_by: tuple[str, ...] = ()
    one_tomogram: bool = False
    one_species: bool = False
    labelled: bool = False
