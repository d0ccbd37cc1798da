"""Where do tasks run?  In this process, in local processes, on a running Dask scheduler, or as SLURM jobs: the same functions.

A *task* is a small picklable value that says all that its function needs (paths, a box, settings); the function reads and writes the
stores itself and returns a small result.  So nothing large travels, and a task that is lost with its worker can simply be run again.

1. `Pool.outcomes` keeps a bounded number of tasks in flight, whatever their number, and hands each result to the caller as it comes:
   the scheduler never holds a graph of all shards.
2. What a user can mend (`TomostreamError`) is a result of its task; `Pool.run` raises it.
3. A task whose worker died is run again elsewhere; after Dask's allowed number of deaths (3) once more by itself, because a neighbour
   may have killed the worker; then it is given up, and the error says so.
4. A worker process runs one task at a time, however many threads it was started with (the memory budget is that of one process), and
   in the client's working folder, so that relative paths mean the same everywhere.

Limits: workers must see the client's files under the same paths.  A scheduler that dies ends the stage; running it again goes on.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import logging
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tomostream import defaults
from tomostream.errors import InputError, TomostreamError
from tomostream.progress import Progress

T = TypeVar("T")
R = TypeVar("R")
IN_FLIGHT_PER_WORKER = 2  # one runs, one waits: hides the scheduler's latency without flooding it
RETRIES = 3  # of a task that met a fault of its machine
CONNECT_SECONDS = 10  # a scheduler that answers at all does so at once
_COUNT_SECONDS = 5.0  # how long a number of workers is believed
_ADDRESS = re.compile(r"^[\w.\-]+:\d+$|^\[[0-9a-fA-F:]+\]:\d+$")


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

    @property
    def local_threads(self) -> int:
        """Threads for input and output in the process of a task: `workers`, unless these are processes."""
        return 1 if self.is_distributed else self.workers


class Pool:
    """Runs tasks, one after the other in this process; the base of the others."""

    def outcomes(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R | TomostreamError]]:
        """Run `function` on each task; yield (task, its result or the user's error) as they finish, in any order."""
        for task in tasks:
            yield task, guarded(function, task)

    def run(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Run `function` on each task; yield (task, result) as they finish, in any order.

        Raises
        ------
        TomostreamError
            The first one of a task; those in flight are cancelled.
        """
        with closing(self.outcomes(function, tasks)) as outcomes:  # type: ignore[type-var]  # it is a generator
            for task, outcome in outcomes:
                if isinstance(outcome, TomostreamError):
                    raise outcome
                yield task, outcome


def guarded(function: Callable[[T], R], task: T) -> R | TomostreamError:
    """Return a user's error as a value: an exception would make a scheduler try again what can't succeed."""
    try:
        return function(task)
    except TomostreamError as error:
        return error


class _BoundedPool(Pool):
    """The bounded submit-and-collect loop that threads and Dask share; subclasses say how."""

    def outcomes(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R | TomostreamError]]:
        waiting = iter(tasks)
        flying: dict[Any, T] = {}
        try:
            while True:
                for task in itertools.islice(waiting, max(0, self._limit() - len(flying))):
                    flying[self._submit(function, task)] = task
                if not flying:
                    return
                for future in self._finished(set(flying)):
                    yield flying.pop(future), self._result(future)
        finally:
            for future in flying:
                future.cancel()

    def _limit(self) -> int:
        """How many tasks may be in flight."""
        raise NotImplementedError

    def _submit(self, function: Callable[[T], R], task: T) -> Any:
        raise NotImplementedError

    def _finished(self, futures: set[Any]) -> set[Any]:
        """Wait for at least one."""
        raise NotImplementedError

    def _result(self, future: Any) -> Any:
        return future.result()


class _ThreadPool(_BoundedPool):
    def __init__(self, threads: ThreadPoolExecutor, workers: int) -> None:
        self._threads, self._workers = threads, workers

    def _limit(self) -> int:
        return self._workers

    def _submit(self, function: Callable[[T], R], task: T) -> Future[R | TomostreamError]:
        return self._threads.submit(guarded, function, task)

    def _finished(self, futures: set[Any]) -> set[Any]:
        return wait(futures, return_when=FIRST_COMPLETED).done


_LOST = TomostreamError(
    "every worker that took it died; was it killed for its memory (--memory is the budget of one process), or at its walltime? "
    "The workers' logs say more"
)


class _DaskPool(_BoundedPool):
    def __init__(self, client: Any) -> None:
        self._client = client
        self._counted, self._workers = -_COUNT_SECONDS, 0

    def outcomes(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[tuple[T, R | TomostreamError]]:
        suspects: list[T] = []  # in a worker that died; perhaps only beside the task that killed it
        try:
            for task, outcome in super().outcomes(function, tasks):
                if outcome is _LOST:
                    suspects.append(task)
                else:
                    yield task, outcome
            for task in suspects:
                yield from super().outcomes(function, [task])
        except (CancelledError, OSError, TimeoutError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of a task: its disk, not the connection
            raise TomostreamError(
                f"the Dask scheduler was lost ({type(error).__name__}: {_first_line(error)}); what is finished is kept: run the same command again to go on"
            ) from None

    def _limit(self) -> int:
        now = time.monotonic()
        if now - self._counted >= _COUNT_SECONDS:  # workers come and go: jobs start, others reach their walltime
            self._counted, self._workers = now, len(self._client.nthreads())
        return IN_FLIGHT_PER_WORKER * max(1, self._workers)

    def _submit(self, function: Callable[[T], R], task: T) -> Any:
        return self._client.submit(_alone, os.getcwd(), function, task, pure=False, retries=RETRIES)

    def _finished(self, futures: set[Any]) -> set[Any]:
        from distributed import wait as wait_dask  # noqa: PLC0415  (distributed takes 0.5 s to import; most commands don't need it)

        return set(wait_dask(list(futures), return_when="FIRST_COMPLETED").done)

    def _result(self, future: Any) -> Any:
        from distributed import KilledWorker  # noqa: PLC0415  (as above)

        try:
            return future.result()
        except KilledWorker:
            return _LOST


_PROCESS = threading.Lock()


def _alone(folder: str, function: Callable[[T], R], task: T) -> R | TomostreamError:
    with _PROCESS:
        try:
            with contextlib.chdir(folder):
                return guarded(function, task)
        except FileNotFoundError as error:
            if error.filename != folder:
                raise
            return InputError(
                f"a worker on {socket.gethostname()} does not see the folder {folder}; workers and client must share their files"
            )


@contextmanager
def open_pool(settings: ClusterSettings, progress: Progress) -> Iterator[Pool]:
    """Start (or join) what runs the tasks, and take it down again.

    With `kind` none, `workers` are threads of this process, for input and output.

    Raises
    ------
    InputError
        If the scheduler can't be reached, or the extra `slurm` or SLURM itself is missing.
    """
    if settings.is_distributed:
        with _client(settings, progress) as client:
            yield _DaskPool(client)
    elif settings.workers == 1:
        yield Pool()
    else:
        with ThreadPoolExecutor(settings.workers) as threads:
            yield _ThreadPool(threads, settings.workers)


@contextmanager
def _client(settings: ClusterSettings, progress: Progress) -> Iterator[Any]:
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # it prints tracebacks of what is told in our words
    if settings.scheduler is not None:
        with _join(settings.scheduler) as client:
            if not client.nthreads():
                progress.warn(f"the scheduler {settings.scheduler} has no worker yet; waiting for one (`dask worker {settings.scheduler}`)")
            yield client
        return
    cluster = _slurm(settings) if settings.kind == "slurm" else _local(settings)
    from distributed import Client  # noqa: PLC0415  (as above)

    with cluster, Client(cluster) as client:
        if importlib.util.find_spec("bokeh") is not None:  # else there is no dashboard
            progress.say(f"dashboard: {client.dashboard_link}")
        yield client


def _join(scheduler: str) -> Any:
    """Connect to a running scheduler by its address or its file."""
    is_address = "://" in scheduler or (_ADDRESS.match(scheduler) is not None and not Path(scheduler).exists())
    if not is_address and not Path(scheduler).is_file():
        raise InputError(f"--scheduler {scheduler}: there is no such file, and it is no address; give tcp://HOST:PORT or a scheduler file")
    from distributed import Client  # noqa: PLC0415  (as above)

    where = {"address": scheduler} if is_address else {"scheduler_file": scheduler}
    try:
        return Client(timeout=f"{CONNECT_SECONDS}s", **where)
    except Exception as error:  # whatever address, file, name server or TLS settings can do wrong
        raise InputError(
            f"--scheduler {scheduler}: no Dask scheduler can be reached there ({type(error).__name__}: {_first_line(error)}); "
            "give tcp://HOST:PORT or a scheduler file"
        ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no details"])[0]


# a terminal's Ctrl-C reaches the workers too, and each would print a traceback, as would a heartbeat that is cut off when the client ends
# them; what goes wrong in a task comes back as its result
_QUIET_END = """import logging, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
for name in ("distributed", "distributed.core", "distributed.worker", "distributed.worker.state_machine"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
"""


def _local(settings: ClusterSettings) -> Any:
    from distributed import LocalCluster  # noqa: PLC0415  (as above)

    return LocalCluster(
        n_workers=settings.workers,
        threads_per_worker=1,
        processes=True,
        memory_limit=None,  # the stages keep their own budget; Dask's nanny would kill on mapped pages
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        preload=_QUIET_END,
    )


def _slurm(settings: ClusterSettings) -> Any:
    try:
        jobqueue: Any = importlib.import_module("dask_jobqueue")  # an optional extra
    except ImportError:
        raise InputError("--cluster slurm needs dask-jobqueue; install it with: pip install 'tomostream[slurm]'") from None
    if shutil.which("sbatch") is None:
        raise InputError("--cluster slurm submits jobs with sbatch, which is not on the PATH here; run it on a node of a SLURM cluster")
    cluster = jobqueue.SLURMCluster(
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
