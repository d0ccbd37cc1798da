"""What must hold for every table of particles?  The one check after each reader and before each writer.

1. Positions are finite numbers, and not all within 0..1: those are fractions of a volume (WarpTools' matching writes them), not voxels.
2. A tomogram's name is one, not a file's (`TS_01.mrc`, `TS_01.tomostar` are `TS_01`); None and NaN are no names; a store that is known
   by RELION's name (`rec_TS_01`) is meant by the other too.
3. What the caller says (`--tomogram`, `--species`) wins over what the table says, if that is one name; else it is refused.
4. Names are text: without line breaks and other control characters, and writable as UTF-8.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.positions import check_finite, check_fractions
from tomostream.particles import Particles
from tomostream.store.naming import counterpart, is_text, listed_name, listed_tomogram

if TYPE_CHECKING:
    from tomostream.formats.conversion import Conversion


def checked(particles: Particles, conversion: Conversion, where: str) -> Particles:
    """Return what a reader found, with correct names.

    Raises
    ------
    InputError
        If a position is not finite, all are fractions, a name can't be one, or what the caller says contradicts.
    """
    check_finite(particles.position_zyx, where)
    check_fractions(particles.position_zyx, where)
    names = row_tomograms(particles.tomogram.tolist(), conversion, where)
    species = [listed_name(value) for value in particles.species.tolist()]
    kinds = one_of(species, conversion.species, conversion.only_species, where, "species")
    check_names((*dict.fromkeys(names), *dict.fromkeys(kinds)), where)
    return replace(particles, tomogram=_texts(names), species=_texts(kinds))


def _texts(values: list[str]) -> np.ndarray:
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result


def row_tomograms(values: Iterable[object], conversion: Conversion, where: str, *, is_file: bool = False) -> list[str]:
    """Name each row's tomogram by the one rule: what the caller says, else what the table says, else the only one there is.

    Parameters
    ----------
    values
        What the table says, row by row.
    conversion
        What the caller says, and the names of the stores that are known.
    where
        Names the table in errors.
    is_file
        Whether the values are files (`rlnMicrographName`).

    Raises
    ------
    InputError
        If the caller names one and the table several.
    """
    rule: dict[object, str] = {}  # each name once: there are many rows
    names: list[str] = []
    for value in values:
        if value not in rule:
            rule[value] = listed_tomogram(value, is_file=is_file)
        names.append(rule[value])
    names = one_of(names, conversion.tomogram, conversion.only_tomogram, where, "tomogram")
    known = conversion.known_tomograms
    meant = {name: counterpart(name, known) for name in dict.fromkeys(names)} if known else {}
    return [meant.get(name, name) for name in names]


def one_of(found: list[str], said: str | None, only: str | None, where: str, what: str) -> list[str]:
    """Replace the names of a table by the caller's, if the table has only one; fill in empty names.

    Raises
    ------
    InputError
        If the table has several.
    """
    if said is not None:
        several = [name for name in dict.fromkeys(found) if name]
        if len(several) > 1:
            more = ", ..." if len(several) > 4 else ""
            raise InputError(
                f"{where} names {len(several)} {what if what == 'species' else what + 's'} ({', '.join(several[:4])}{more}); --{what} "
                f"{said} can replace only one: leave it out, or split the table"
            )
        return [said] * len(found)
    return [name or only for name in found] if only is not None else found


def check_names(names: Iterable[str], where: str) -> None:
    """Refuse names that no table can hold.

    Raises
    ------
    InputError
        If one has a line break or another control character, or can't be written as UTF-8.
    """
    for name in names:
        if not is_text(name):
            raise InputError(f"{where}: the name {name!r} is not UTF-8 text; rename it")
        if any(unicodedata.category(letter) == "Cc" for letter in name):
            raise InputError(f"{where}: the name {name[:60]!r} holds a line break or another control character; is a quote never closed?")
