"""One stage over many inputs: what fails is reported, what can be done is done.

One input: its error is the stage's error (exit 2).  Several: the others go on, and the failures are raised together at the end
(exit 3), unless nothing succeeded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tomostream.errors import BusyError, InputError, SomeFailedError, TomostreamError
from tomostream.progress import Progress
from tomostream.store.naming import tomogram_name

T = TypeVar("T")
R = TypeVar("R")


def for_each(items: Sequence[T], name_of: Callable[[T], str], work: Callable[[T], R], progress: Progress) -> list[R]:
    """Run `work` on every item, in order; failures of some don't stop the others.

    Raises
    ------
    TomostreamError
        The only item's own error; `SomeFailedError` when some of several failed; the first error when all did.
    """
    results: list[R] = []
    failures: list[tuple[str, str]] = []
    first: TomostreamError | None = None
    for item in items:
        try:
            results.append(work(item))
        except TomostreamError as error:
            if len(items) == 1 or isinstance(error, BusyError):
                raise
            first = first or error
            failures.append((name_of(item), str(error)))
            progress.warn(f"{name_of(item)}: {error}")
    if failures and not results and first is not None:
        message = f"all {len(items)} inputs failed:\n" + "\n".join(f"  {name}: {text}" for name, text in failures)
        raise type(first)(message) if not isinstance(first, SomeFailedError) else first
    if failures:
        raise SomeFailedError(failures, len(items))
    return results


def distinct_names(paths: Sequence[str], *, from_folder: bool = False) -> dict[str, str]:
    """Name the inputs: their files' names less the known suffixes, or their folders' names.

    Returns
    -------
    dict
        Name to path, in the order given.

    Raises
    ------
    InputError
        If two inputs have one name, or there is no input.
    """
    if not paths:
        raise InputError("no input is given; name at least one file")
    names: dict[str, str] = {}
    for path in paths:
        name = Path(path).resolve().parent.name if from_folder else tomogram_name(path)
        if name in names:
            hint = "rename one" if from_folder else "rename one, or use --name-from-folder"
            raise InputError(f"two inputs have the name '{name}': {names[name]} and {path}; {hint}")
        names[name] = path
    return names
