"""Run one stage over many inputs: report the failures, and finish the rest.

One input: its error is the stage's error (exit 2).  Several: the others continue, and the failures are raised together at the end
(exit 3), unless nothing succeeded.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Generic, Literal, Protocol, TypeVar, runtime_checkable

from tomostream.cluster import Resources, guarded, open_pool
from tomostream.errors import BusyError, InputError, MachineError, SomeFailedError, TomostreamError
from tomostream.progress import Bar, Progress
from tomostream.remote.places import Place, RemotePath


@runtime_checkable  # the tests check annotations as they run
class Named(Protocol):
    """A picklable task of one tomogram."""

    @property
    def name(self) -> str:
        """The tomogram's name."""


T = TypeVar("T", bound=Named)
R = TypeVar("R")
S = TypeVar("S")
Work = Callable[[T, Progress], R]
Note = tuple[Literal["say", "say_once", "warn", "record"], str, dict[str, object]]
_FORWARDED = ("chosen",)  # events of a worker that its client does not note itself


class Results(Generic[R]):
    """Collects the outcomes of many inputs; a failure does not stop the others.

    Parameters
    ----------
    names
        Of the inputs.
    progress
        Notified of failures as they occur.
    """

    def __init__(self, names: Sequence[str], progress: Progress) -> None:
        self._names, self._progress = list(names), progress
        self._done: dict[str, R] = {}
        self._failed: dict[str, TomostreamError] = {}

    def note(self, name: str, outcome: R | TomostreamError) -> None:
        """Keep the outcome of one.

        Raises
        ------
        TomostreamError
            The only input's own error; `BusyError` of any, because another run is working on these.
        """
        if not isinstance(outcome, TomostreamError):
            self._done[name] = outcome
            self._progress.record("done", tomogram=name)
            return
        self._progress.record("failed", tomogram=name, why=str(outcome))
        if len(self._names) == 1 or isinstance(outcome, BusyError):
            raise outcome
        self._failed[name] = outcome
        self._progress.warn(f"{name}: {outcome}")

    @property
    def told(self) -> str:
        """How many failed so far, for a line of progress; empty if none."""
        return f"{len(self._failed)} failed" if self._failed else ""

    def all(self) -> list[R]:
        """The results, in the order of the inputs.

        Raises
        ------
        TomostreamError
            `SomeFailedError` when some failed; the first error's kind when all did.
        """
        if self._failed and not self._done:
            first = next(iter(self._failed.values()))
            rows = "\n".join(f"  {name}: {error}" for name, error in self._failed.items())
            raise (InputError if isinstance(first, SomeFailedError) else type(first))(f"all {len(self._names)} inputs failed:\n{rows}")
        done = [self._done[name] for name in self._names if name in self._done]
        if self._failed:
            raise SomeFailedError([(name, str(error)) for name, error in self._failed.items()], len(self._names), done)
        return done


def for_each(tasks: Sequence[T], work: Work[T, R], *, resources: Resources | None = None, progress: Progress) -> list[R]:
    """Run `work` on every task, here (as without resources) or where they say; failures of some don't stop the others.

    Returns
    -------
    list
        The results, in the order of the tasks.

    Raises
    ------
    TomostreamError
        See `Results`.
    """
    results: Results[R] = Results([task.name for task in tasks], progress)
    if resources is not None and resources.is_distributed:
        with open_pool(resources, progress) as pool, followed(len(tasks), progress) as bar:
            for task, outcome in pool.outcomes(functools.partial(_recorded, work), tasks, is_grouped=True):
                if isinstance(outcome, TomostreamError):  # its workers died, or their disks failed
                    results.note(task.name, outcome)
                else:
                    result, notes = outcome
                    for kind, text, facts in notes:
                        getattr(progress, kind)(text, **facts)
                    results.note(task.name, result)
                bar.advance(note=results.told)
    else:
        with followed(len(tasks), progress) as bar:
            for task in tasks:
                results.note(task.name, guarded_disk(lambda t: work(t, progress), task))
                bar.advance(note=results.told)
    return results.all()


def followed(tomograms: int, progress: Progress, title: str = "tomograms") -> AbstractContextManager[Bar]:
    """Follow the tomograms of a stage, where there are several."""
    return progress.track(title, tomograms) if tomograms > 1 else contextlib.nullcontext(Bar())


def guarded_disk(work: Callable[[S], R], task: S) -> R | TomostreamError:
    """Do the work of one task; what its disk refuses is its failure too, and no reason to stop the others."""

    def attempt(task: S) -> R:
        try:
            return work(task)
        except OSError as error:
            where = error.filename or getattr(task, "name", "a file")
            raise InputError(f"{where}: {error.strerror or error}; check the disk, the network and your permissions") from error

    return guarded(attempt, task)


class _Recorder(Progress):
    """Keep the messages of a stage on a worker, to show them to the user of the client."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def say(self, text: str) -> None:
        self.notes.append(("say", text, {}))

    def say_once(self, text: str) -> None:
        self.notes.append(("say_once", text, {}))

    def warn(self, text: str) -> None:
        self.notes.append(("warn", text, {}))

    def record(self, event: str, **facts: object) -> None:
        if event in _FORWARDED:
            self.notes.append(("record", event, facts))


def _recorded(work: Work[T, R], task: T) -> tuple[R | TomostreamError, list[Note]]:
    """On a worker: what its disk refuses is raised, because another machine may do it."""
    recorder = _Recorder()
    outcome = guarded(lambda t: work(t, recorder), task)
    if isinstance(outcome, MachineError):
        raise outcome
    return outcome, recorder.notes


def writable_folder(folder: Place) -> Place:
    """Make a folder for results, before any work; an object store has no folders, so the first write shows whether it works.

    Raises
    ------
    InputError
        If it can't be made or written to.
    """
    if isinstance(folder, RemotePath):
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"output folder {folder} can't be made: {error.strerror or error}; choose another with -o") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"output folder {folder} can't be written; choose another with -o, or change its permissions")
    return folder
