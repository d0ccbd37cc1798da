"""What functions take for a tomogram."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tomostream.remote.places import RemotePath
from tomostream.tomogram import Tomogram, open_tomogram

if TYPE_CHECKING:
    pass


Source = str | Path | RemotePath | Tomogram


def opened(source: Source) -> Tomogram:
    """Return the tomogram of a path or URL.

    Raises
    ------
    InputError
        If there is no whole store.
    """
    return source if isinstance(source, Tomogram) else open_tomogram(str(source))
