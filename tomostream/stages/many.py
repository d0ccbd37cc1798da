"""One stage over many inputs: what fails is reported, what can be done is done.

One input: its error is the stage's error (exit 2).  Several: the others go on, and the failures are raised together at the end
(exit 3), unless nothing succeeded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from tomostream.cluster import ClusterSettings, open_pool
from tomostream.errors import BusyError, InputError, SomeFailedError, TomostreamError
from tomostream.progress import Progress
from tomostream.store.naming import tomogram_name


@runtime_checkable  # the tests check annotations as they run
class Named(Protocol):
    """A picklable task of one tomogram."""

    @property
    def name(self) -> str:
        """The tomogram's name."""


T = TypeVar("T", bound=Named)
R = TypeVar("R")
Work = Callable[[T, Progress], R]


def for_each(tasks: Sequence[T], work: Work[T, R], *, cluster: ClusterSettings | None = None, progress: Progress) -> list[R]:
    """Run `work` on every task, here or on the cluster; failures of some don't stop the others.

    Returns
    -------
    list
        The results, in the order of the tasks.

    Raises
    ------
    TomostreamError
        The only task's own error; `SomeFailedError` when some of several failed; the first error's kind when all did.
    """
    results: dict[str, R] = {}
    failed: dict[str, TomostreamError] = {}

    def note(name: str, outcome: R | TomostreamError) -> None:
        if not isinstance(outcome, TomostreamError):
            results[name] = outcome
            return
        if len(tasks) == 1 or isinstance(outcome, BusyError):
            raise outcome
        failed[name] = outcome
        progress.warn(f"{name}: {outcome}")

    if cluster is not None and cluster.is_distributed:
        with open_pool(cluster, progress) as pool, progress.track("tomograms", len(tasks)) as bar:
            for task, outcome in pool.run(functools.partial(_guarded, work), tasks):
                note(task.name, outcome)
                bar.advance()
    else:
        for task in tasks:
            note(task.name, _guarded(work, task, progress))
    if failed and not results:
        first = next(iter(failed.values()))
        rows = "\n".join(f"  {name}: {error}" for name, error in failed.items())
        raise (InputError if isinstance(first, SomeFailedError) else type(first))(f"all {len(tasks)} inputs failed:\n{rows}")
    if failed:
        raise SomeFailedError([(name, str(error)) for name, error in failed.items()], len(tasks))
    return [results[task.name] for task in tasks]


def _guarded(work: Work[T, R], task: T, progress: Progress | None = None) -> R | TomostreamError:
    """Return a user's error as a value: an exception would make the scheduler try again what can't succeed."""
    try:
        return work(task, progress or Progress())
    except TomostreamError as error:
        return error


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
