"""Symbolic links: one that leads back would make a walk endless, and one in a folder of ours would lead what we write or remove elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tomostream.errors import InputError


class Entered:
    """The folders that a walk has entered, so that it enters each once, however many links lead there."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def is_new(self, folder: Path) -> bool:
        """Whether this folder was not entered before; it is from now on.

        Raises
        ------
        OSError
            If it can't be looked at.
        """
        found = folder.stat()
        key = found.st_dev, found.st_ino
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new


def refuse_links(paths: Iterable[Path], what: str) -> None:
    """Refuse to write where one of these is a link.

    Parameters
    ----------
    what
        What they belong to, for the message.

    Raises
    ------
    InputError
        If one is; nothing was followed.
    """
    for path in paths:
        if path.is_symlink():
            raise InputError(f"{path} is a link to another place, and {what} is never written through one; remove the link")


def all_below(folder: Path) -> Iterable[Path]:
    """Yield a folder and all that is in it; links are not followed."""
    yield folder
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(here, name)
