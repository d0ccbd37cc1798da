"""Opening a named pipe waits until another program opens its other end: for ever, where a stranger's folder holds one in the place of a file.

Files are opened in many places, also by libraries, so Python's audit events are the one place that sees them all.  A pipe that the shell makes
for `<(command)` has a writer, and is let through.
"""

from __future__ import annotations

import functools
import os
import stat
import sys

from tomostream.errors import InputError

_OF_THE_SHELL = ("/dev/fd/", "/proc/self/fd/")


@functools.cache  # a hook can't be taken away
def refuse_named_pipes() -> None:
    """Refuse, from now on and in this process, to open a named pipe by its name."""
    sys.addaudithook(_look)


def _look(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):  # else a descriptor that is open
        return
    path = arguments[0]
    try:
        is_pipe = stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):  # whoever opens it is told
        return
    name = os.fsdecode(path)
    if is_pipe and not name.startswith(_OF_THE_SHELL):
        raise InputError(
            f"{name} is a named pipe, and not a file: opening it would wait for another program; write the data into a file, and give that"
        )
