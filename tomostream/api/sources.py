"""The kinds of tomogram, path and table that functions take; what is none of them is refused in words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tomostream.errors import InputError
from tomostream.particles import Particles
from tomostream.remote.places import RemotePath
from tomostream.tomogram import Tomogram, open_tomogram

Source = str | Path | RemotePath | Tomogram


def opened(source: Source) -> Tomogram:
    """Return the tomogram of a path or URL.

    Raises
    ------
    InputError
        If the store is missing, broken or unfinished.
    """
    return source if isinstance(source, Tomogram) else open_tomogram(str(source))


def is_data_frame(value: object) -> bool:
    """Whether this is a pandas table; pandas, which is slow to import, is not imported."""
    return type(value).__module__.split(".")[0] == "pandas" and type(value).__name__ == "DataFrame"


def checked_path(value: Any, what: str) -> Any:
    """Return a path or URL as it is.

    Raises
    ------
    InputError
        If it is anything else: bytes, a list, a table, None.
    """
    if isinstance(value, str | os.PathLike | RemotePath):
        return value
    hint = ""
    if is_data_frame(value):
        hint = "; make particles of a data frame by Particles.from_dataframe(table)"
    elif isinstance(value, list | tuple):
        hint = "; call it once for each"
    elif isinstance(value, Particles):
        hint = "; are the arguments in another order?"
    raise InputError(f"{what} must be a path (text or pathlib.Path), found {_kind(value)}{hint}")


def as_particles(value: Any, what: str) -> Particles:
    """Return particles, or those of a data frame.

    Raises
    ------
    InputError
        If it is neither.
    """
    if isinstance(value, Particles):
        return value
    if is_data_frame(value):
        return Particles.from_dataframe(value, where=what)
    raise InputError(
        f"{what} must be Particles or a pandas data frame, found {_kind(value)}; positions alone say neither unit nor tomogram: "
        "Particles.build(positions_zyx, unit='voxel', tomogram=NAME) makes particles of them"
    )


def table_or_path(value: Any, what: str) -> Any:
    """Particles (a data frame's too), or a path."""
    if isinstance(value, str | Path | RemotePath):
        return value
    return as_particles(value, what)


def checked_number(value: Any, what: str) -> float:
    """Return a number of voxels as a float.

    Raises
    ------
    InputError
        If it is no number.
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{what} must be a number of voxels, as 10.0; found {value!r}") from None


def _kind(value: object) -> str:
    return "None" if value is None else f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
