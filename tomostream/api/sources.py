"""The kinds of tomogram that functions take."""

from __future__ import annotations

from pathlib import Path

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
