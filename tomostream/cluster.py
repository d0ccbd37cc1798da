"""Where do tasks run?  In this process, in local processes, on a running Dask scheduler, or as SLURM jobs: the same functions.

A *task* is a small picklable value that says all that its function needs (paths, a box, settings); the function reads and writes the
stores itself and returns a small result.  So nothing large travels, and a task that is lost with its worker can simply be run again.

`Pool.run` keeps a bounded number of tasks in flight, whatever their number, and hands each result to the caller as it comes: the
scheduler never holds a graph of all shards.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.progress import Progress

T = TypeVar("T")
R = TypeVar("R")
IN_FLIGHT_PER_WORKER = 2  # one runs, one waits: hides the scheduler's latency without flooding it
RETRIES = 3  # of a task whose worker died


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Where to run: `kind` none, local or slurm, or the address or file of a running scheduler."""

    kind: str = defaults.CLUSTER
    scheduler: str | None = None
    workers: int = defaults.WORKERS
    threads: int | None = None
    memory: int = 2 * 10**9  # bytes, of one process
    queue: str | None = None
    account: str | None = None
    walltime: str = "04:00:00"
    gpus: int = 0
    options: tuple[str, ...] = ()

    @property
    def is_distributed(self) -> bool:
        """Whether tasks leave this process."""
        return self.scheduler is not None or self.kind != "none"


@runtime_checkable  # the tests check annotations as they run
class Pool(Protocol):
    """Runs tasks."""

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Run `function` on each task; yield (task, result) as they finish, in any order."""


class _Serial:
    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        for task in tasks:
            yield task, function(task)


@dataclass(frozen=True)
class _Bounded(Generic[R]):
    """The bounded submit-and-collect loop that threads and Dask share."""

    limit: int
    submit: Callable[..., Any]
    collect: Callable[[set[Any]], tuple[set[Any], set[Any]]]  # futures -> finished, unfinished
    cancel: Callable[[Any], object]

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        waiting = iter(tasks)
        flying: dict[Any, T] = {}
        try:
            while True:
                for task in itertools.islice(waiting, self.limit - len(flying)):
                    flying[self.submit(function, task)] = task
                if not flying:
                    return
                finished, _ = self.collect(set(flying))
                for future in finished:
                    yield flying.pop(future), future.result()
        finally:
            for future in flying:
                self.cancel(future)


def _wait_threads(futures: set[Future[Any]]) -> tuple[set[Any], set[Any]]:
    done = wait(futures, return_when=FIRST_COMPLETED)
    return done.done, done.not_done


@contextmanager
def open_pool(settings: ClusterSettings, progress: Progress) -> Iterator[Pool]:
    """Start (or join) what runs the tasks, and take it down again.

    With `kind` none, `workers` are threads of this process, for input and output.

    Raises
    ------
    InputError
        If the scheduler can't be reached, or the extra `slurm` is missing.
    """
    if not settings.is_distributed:
        if settings.workers == 1:
            yield _Serial()
            return
        with ThreadPoolExecutor(settings.workers) as threads:
            yield _Bounded(settings.workers, threads.submit, _wait_threads, lambda future: future.cancel())
        return
    with _client(settings, progress) as client:
        workers = settings.workers if settings.scheduler is None else max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        yield _Bounded(
            IN_FLIGHT_PER_WORKER * workers,
            lambda function, task: client.submit(function, task, pure=False, retries=RETRIES),
            _wait_dask,
            lambda future: future.cancel(),
        )


def _wait_dask(futures: set[Any]) -> tuple[set[Any], set[Any]]:
    from distributed import wait as wait_dask  # noqa: PLC0415  (distributed takes 0.5 s to import; most commands don't need it)

    done = wait_dask(list(futures), return_when="FIRST_COMPLETED")
    return set(done.done), set(done.not_done)


@contextmanager
def _client(settings: ClusterSettings, progress: Progress) -> Iterator[Any]:
    from distributed import Client, LocalCluster  # noqa: PLC0415  (as above)

    if settings.scheduler is not None:
        where = settings.scheduler
        is_file = "://" not in where and Path(where).exists()
        try:
            client = Client(scheduler_file=where, timeout="30s") if is_file else Client(where, timeout="30s")
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                f"--scheduler {where}: no Dask scheduler answers there within 30 s ({error}); give tcp://HOST:PORT or a scheduler file"
            ) from None
        with client:
            yield client
        return
    if settings.kind == "slurm":
        cluster = _slurm(settings)
    else:
        cluster = LocalCluster(
            n_workers=settings.workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,  # the stages keep their own budget; Dask's nanny would kill on mapped pages
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        )
    with cluster, Client(cluster) as client:
        progress.say(f"dashboard: {client.dashboard_link}")
        yield client


def _slurm(settings: ClusterSettings) -> Any:
    try:
        from dask_jobqueue import SLURMCluster  # noqa: PLC0415  (an optional extra)
    except ImportError:
        raise InputError("--cluster slurm needs dask-jobqueue; install it with: pip install 'tomostream[slurm]'") from None
    cluster = SLURMCluster(
        cores=settings.threads or 1,
        processes=1,
        memory=f"{settings.memory // 10**6}MB",
        queue=settings.queue,
        account=settings.account,
        walltime=settings.walltime,
        job_extra_directives=[*settings.options, *([f"--gpus={settings.gpus}"] if settings.gpus else [])],
        worker_extra_args=["--nthreads", "1"],
    )
    cluster.scale(jobs=settings.workers)
    return cluster
