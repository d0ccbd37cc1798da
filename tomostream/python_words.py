"""Messages are written for the command line; the caller of a function gets them in Python's words.

One rule: `--some-option VALUE` is the keyword `some_option=`.  So the functions' keywords are called as the options are.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tomostream.errors import TomostreamError
from tomostream.progress import Progress

P = ParamSpec("P")
R = TypeVar("R")

_OPTION = re.compile(r"--([a-z][a-z0-9-]*)(?: (?:[A-Z][A-Z,]*(?:\.\.\.)?\b(?:\.\.\.)?))?")
_NAMES = {"picks-format": "format", "truth-format": "format", "output": "out", "columns x,y,z": "columns"}
_COMMAND = re.compile(r"`?tomostream (convert|stats|predict|pick|evaluate|train|run) ?[^`,;)]*`?")
_FUNCTIONS = {"stats": "statistics"}


class TomostreamWarning(UserWarning):
    """What the command line would warn of."""


class PythonProgress(Progress):
    """Turns a stage's warnings into Python's; messages are not shown."""

    def warn(self, text: str) -> None:
        """Give a warning of Python's."""
        warnings.warn(in_python(text), TomostreamWarning, stacklevel=2)


def in_python(message: str) -> str:
    """Say a message of the command line in Python's words.

    >>> in_python("give --voxel-size ANGSTROM or --tomograms ZARR..., else choose one with --species")
    'give voxel_size=... or tomograms=..., else choose one with species=...'
    """
    message = _COMMAND.sub(lambda match: f"tomostream.{_FUNCTIONS.get(match[1], match[1])}(...)", message)
    return _OPTION.sub(lambda match: f"{_NAMES.get(match[1], match[1]).replace('-', '_')}=...", message)


def speaks_python(function: Callable[P, R]) -> Callable[P, R]:
    """Let a public function's errors speak of its keywords, not of options."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except TomostreamError as error:
            error.args = (in_python(str(error)), *error.args[1:])
            raise

    return wrapped
