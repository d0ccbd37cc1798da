"""Where is the user's home?  Containers and batch systems may have none."""

from __future__ import annotations

import os
from pathlib import Path

from tomostream.errors import InputError


def expanded(path: str | Path) -> Path:
    """Replace a leading `~`.

    Raises
    ------
    InputError
        If there is no such home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path}: the home folder that ~ stands for is not known here; set HOME, or write the whole path") from None


def cache_folder() -> Path:
    """The folder for what is kept between runs, apart from the user's files.

    Raises
    ------
    InputError
        If neither XDG_CACHE_HOME nor a home is known.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given) / "tomostream"
    try:
        return Path.home() / ".cache" / "tomostream"
    except RuntimeError:
        raise InputError(
            "the home folder is not known here; set HOME, or XDG_CACHE_HOME to a folder for what is kept between runs"
        ) from None
