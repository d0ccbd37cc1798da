"""Run a batch of tasks in a worker: one at a time, in the client's folder; report faults of the machine as such.

1. A worker process runs one task at a time, however many threads it was started with (the memory budget is that of one process), and
   in the client's working folder, so that relative paths mean the same everywhere.
2. A full or missing disk, a folder that is not mounted, a GPU that is not there are faults of this machine (`MachineError`): the client
   gives the task to another one.
3. A worker of another version of tomostream is refused: its bytes might differ.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tomostream.cluster.pools import guarded
from tomostream.errors import MachineError, TomostreamError
from tomostream.version import VERSION

T = TypeVar("T")
R = TypeVar("R")
_process = threading.Lock()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a batch."""

    worker: str  # address
    seconds: float
    outcomes: list[Any]  # a result or a TomostreamError for each task


def work(folder: str, version: str, function: Callable[[T], R], tasks: Sequence[T]) -> Answer:
    """Run `function` on each task, on a Dask worker.

    Parameters
    ----------
    folder
        The client's working folder.
    version
        The client's.
    function, tasks
        What to do.
    """
    from distributed import get_worker  # noqa: PLC0415  (distributed takes 0.5 s to import; most commands don't need it)

    address = str(get_worker().address)
    if version != VERSION:
        refusal = MachineError(
            f"the worker on {socket.gethostname()} has tomostream {VERSION}, the client {version}; install the same version on both"
        )
        return Answer(address, 0.0, [refusal] * len(tasks))
    with _process:
        started = time.monotonic()
        outcomes = [_attempt(folder, function, task) for task in tasks]
        return Answer(address, time.monotonic() - started, outcomes)


def _attempt(folder: str, function: Callable[[T], R], task: T) -> R | TomostreamError:
    try:
        with _inside(folder):
            return guarded(function, task)
    except MachineError as error:
        return error
    except OSError as error:
        return MachineError(
            f"{error.filename or 'a file'}: {error.strerror or error} (on {socket.gethostname()}); check the disk, the network and your permissions"
        )


@contextlib.contextmanager
def _inside(folder: str) -> Iterator[None]:
    there = contextlib.chdir(folder)
    try:
        there.__enter__()
    except OSError as error:
        raise MachineError(
            f"a worker on {socket.gethostname()} does not see the folder {folder} ({error.strerror}); workers and client need a shared file system"
        ) from None
    try:
        yield
    finally:
        there.__exit__(None, None, None)
