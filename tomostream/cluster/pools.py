"""Run tasks in this process, one after the other or in threads; and the interface of every pool.

1. `Pool.outcomes` keeps a bounded number of tasks in flight, whatever their number, and hands each result to the caller as it comes.
2. An error that the user can fix (`TomostreamError`) is a result of its task; `Pool.run` raises it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from tomostream.cluster.worker_cache import Load, forget
from tomostream.errors import TomostreamError

T = TypeVar("T")
R = TypeVar("R")


class Pool:
    """Runs tasks one after the other in this process; base class of the other pools.

    Parameters
    ----------
    threads
        Of torch, for one task.
    """

    def __init__(self, threads: int) -> None:
        self._task_threads = threads
        self.needs_gpu = False  # whether only workers with a GPU take tasks

    @property
    def threads(self) -> int:
        """Threads of torch for one task."""
        return self._task_threads

    def outcomes(
        self, function: Callable[[T], R], tasks: Iterable[T], *, is_grouped: bool = False
    ) -> Iterator[tuple[T, R | TomostreamError]]:
        """Run `function` on each task; yield (task, its result or the user's error) as they finish, in any order.

        Parameters
        ----------
        function
            Importable on the workers.
        tasks
            Drawn as they are needed: they may be very many.
        is_grouped
            Whether small tasks may travel together, some seconds' work at a time.
        """
        del is_grouped  # nothing travels
        for task in tasks:
            yield task, guarded(function, task)

    def run(self, function: Callable[[T], R], tasks: Iterable[T], *, is_grouped: bool = False) -> Iterator[tuple[T, R]]:
        """Run `function` on each task; yield (task, result) as they finish, in any order.

        Raises
        ------
        TomostreamError
            The first one of a task; those in flight are cancelled.
        """
        with closing(self.outcomes(function, tasks, is_grouped=is_grouped)) as outcomes:  # type: ignore[type-var]  # it is a generator
            for task, outcome in outcomes:
                if isinstance(outcome, TomostreamError):
                    raise outcome
                yield task, outcome

    @contextmanager
    def keeping(self, load: Load[object]) -> Iterator[None]:
        """Let every worker load this before its first task and keep it until the end; tasks get it with `resident(load)`."""
        try:
            yield
        finally:
            forget(load)


def guarded(function: Callable[[T], R], task: T) -> R | TomostreamError:
    """Return a user's error as a value: after an exception a scheduler would repeat what can't succeed."""
    try:
        return function(task)
    except TomostreamError as error:
        return error


class ThreadPool(Pool):
    """Runs tasks in threads of this process."""

    def __init__(self, executor: ThreadPoolExecutor, workers: int, threads: int) -> None:
        super().__init__(threads)
        self._executor, self._workers = executor, workers

    def outcomes(
        self, function: Callable[[T], R], tasks: Iterable[T], *, is_grouped: bool = False
    ) -> Iterator[tuple[T, R | TomostreamError]]:
        """See `Pool.outcomes`."""
        del is_grouped
        waiting = iter(tasks)
        flying: dict[Future[Any], T] = {}
        try:
            while True:
                for task in itertools.islice(waiting, self._workers - len(flying)):
                    flying[self._executor.submit(guarded, function, task)] = task
                if not flying:
                    return
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    yield flying.pop(future), future.result()
        finally:
            for future in flying:
                future.cancel()
