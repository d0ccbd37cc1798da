"""Run millions of tasks through a Dask scheduler that holds a few: in batches, a bounded number in flight, with a limit on faults.

1. Two batches per worker are in flight: one runs, one waits.  The scheduler never holds a graph of all tasks.
2. A batch holds as many tasks as take about `BATCH_SECONDS`, by the times measured so far; the first ones hold one each.
3. A worker that dies: Dask gives its batch to another; after Dask's allowed number of deaths (3) each task of the batch goes once more
   by itself, because a neighbour may have killed the worker; then it is given up, and the error says so.
4. A fault of a machine (`MachineError`: a full disk, no GPU): the task goes to another worker, `ATTEMPTS` times at most; a worker with
   `FAULTS` of them in a row is avoided while there are others, because a broken machine fails fast and would take every task.
"""

from __future__ import annotations

import itertools
import os
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tomostream.cluster.pools import Pool
from tomostream.cluster.queue import Keeper
from tomostream.cluster.worker_batch import Answer, work
from tomostream.cluster.worker_cache import Load
from tomostream.errors import InputError, MachineError, TomostreamError
from tomostream.progress import Progress
from tomostream.version import VERSION

T = TypeVar("T")
R = TypeVar("R")
IN_FLIGHT_PER_WORKER = 2  # hides the scheduler's latency without flooding it
BATCH_SECONDS = 3.0
MOST_IN_FLIGHT = 256  # tasks, in batches: each may belong to a tomogram of its own, with open files
ATTEMPTS = 4  # of a task that meets faults of machines
FAULTS = 3  # of a worker, in a row
_WAIT_SECONDS = 0.2  # for the first worker
CHECK_SECONDS = 2.0  # between looks at what has no event of its own: workers that come, jobs that end

_LOST = TomostreamError(
    "every worker that took it died; was it killed for its memory (--memory is the budget of one process), or at its walltime? "
    "The workers' logs say more"
)


@dataclass(eq=False, slots=True)
class _Batch(Generic[T]):
    tasks: tuple[T, ...]
    attempts: int = 0  # that met a machine's fault


class DaskPool(Pool):
    """Runs tasks on the workers of a Dask client.

    Parameters
    ----------
    client
        A synchronous `distributed.Client`.
    threads
        Of torch, for one task; None: the cores of the worker that has the fewest.
    progress
        Receives warnings about workers that are avoided.
    needs_gpu
        Only workers that offer the resource GPU take tasks; None: if all that are there do.
    keeper
        Of the jobs in which the workers run, if that is our business.
    """

    def __init__(self, client: Any, *, threads: int | None, progress: Progress, needs_gpu: bool | None, keeper: Keeper | None) -> None:
        super().__init__(threads or 0)
        self._client, self._progress, self._keeper = client, progress, keeper
        self._workers: list[str] = []
        if needs_gpu is None:
            workers = self._facts().values()
            needs_gpu = bool(workers) and all(facts["resources"].get("GPU") for facts in workers)
        self.needs_gpu = needs_gpu
        self._checked = -CHECK_SECONDS
        self._faults: Counter[str] = Counter()
        self._avoided: set[str] = set()
        self._task_seconds: float | None = None

    @property
    def threads(self) -> int:
        """Threads of torch for one task; if not given, waits for the first worker to ask it."""
        if not self._task_threads:
            with _told():
                while not (cores := self._client.nthreads()):
                    time.sleep(_WAIT_SECONDS)
            self._task_threads = min(cores.values())
        return self._task_threads

    def outcomes(
        self, function: Callable[[T], R], tasks: Iterable[T], *, is_grouped: bool = False
    ) -> Iterator[tuple[T, R | TomostreamError]]:
        """See `Pool.outcomes`."""
        suspects: list[T] = []  # in a worker that died; perhaps only beside the task that killed it
        self._task_seconds = None
        with _told():
            for task, outcome in self._flow(function, iter(tasks), is_grouped):
                if outcome is _LOST:
                    suspects.append(task)
                    self._record_again(task, "its worker died, three times; once more by itself")
                else:
                    yield task, outcome
            for task in suspects:
                yield from self._flow(function, iter([task]), False)

    def _flow(self, function: Callable[[T], R], waiting: Iterator[T], is_grouped: bool) -> Iterator[tuple[T, R | TomostreamError]]:
        flying: dict[Any, _Batch[T]] = {}
        again: deque[_Batch[T]] = deque()
        finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        try:
            while True:
                self._check()
                while len(flying) < IN_FLIGHT_PER_WORKER * max(1, len(self._workers)):
                    batch = again.popleft() if again else self._next(waiting, is_grouped)
                    if batch is None:
                        break
                    future = self._submit(function, batch)
                    flying[future] = batch
                    future.add_done_callback(finished.put)
                if not flying:
                    return
                try:
                    future = finished.get(timeout=CHECK_SECONDS)
                except queue.Empty:
                    continue
                batch = flying.pop(future)
                for task, outcome in zip(batch.tasks, self._result(future, batch), strict=True):
                    if isinstance(outcome, MachineError) and batch.attempts + 1 < ATTEMPTS:
                        again.append(_Batch((task,), batch.attempts + 1))
                        self._record_again(task, str(outcome))
                    else:
                        yield task, outcome
        finally:
            for future in flying:
                with suppress(CancelledError, OSError, TimeoutError):  # the scheduler may be gone
                    future.cancel()

    def _next(self, waiting: Iterator[T], is_grouped: bool) -> _Batch[T] | None:
        count = 1
        if is_grouped and self._task_seconds is not None:
            most = MOST_IN_FLIGHT // (IN_FLIGHT_PER_WORKER * max(1, len(self._workers)))
            count = max(1, min(most, int(BATCH_SECONDS / max(self._task_seconds, 1e-6))))
        tasks = tuple(itertools.islice(waiting, count))
        return _Batch(tasks) if tasks else None

    def _submit(self, function: Callable[[T], R], batch: _Batch[T]) -> Any:
        good = [worker for worker in self._workers if worker not in self._avoided] if self._avoided else []
        return self._client.submit(
            work,
            os.getcwd(),
            VERSION,
            function,
            batch.tasks,
            pure=False,
            resources={"GPU": 1} if self.needs_gpu else None,
            workers=good or None,
            allow_other_workers=bool(good),  # should these all leave, another takes it
        )

    def _result(self, future: Any, batch: _Batch[T]) -> list[Any]:
        from distributed import KilledWorker  # noqa: PLC0415  (distributed takes 0.5 s to import; most commands don't need it)

        try:
            answer: Answer = future.result()
        except KilledWorker:
            return [_LOST] * len(batch.tasks)
        except ImportError as error:
            raise InputError(f"the workers can't run tomostream's tasks ({first_line(error)}); install the same version for them") from None
        self._learn(answer, len(batch.tasks))
        return answer.outcomes

    def _learn(self, answer: Answer, tasks: int) -> None:
        fault = next((outcome for outcome in answer.outcomes if isinstance(outcome, MachineError)), None)
        if fault is None:
            self._faults.pop(answer.worker, None)
            self._avoided.discard(answer.worker)
            each = answer.seconds / tasks
            self._task_seconds = each if self._task_seconds is None else 0.7 * self._task_seconds + 0.3 * each
            if self._keeper is not None:
                self._keeper.note_result()
            return
        self._faults[answer.worker] += 1
        if self._faults[answer.worker] == FAULTS:
            self._avoided.add(answer.worker)
            self._progress.warn(
                f"worker {answer.worker} failed {FAULTS} times in a row and gets no more tasks while there are others: {fault}"
            )

    def _record_again(self, task: object, why: str) -> None:
        """Record workers that leave in the run's log; what Dask repeats by itself is not recorded."""
        shard = getattr(task, "index", None)
        facts = {"shard": list(shard)} if isinstance(shard, tuple) else {}
        self._progress.record("retried", tomogram=getattr(task, "name", None), **facts, why=why)

    def _facts(self) -> dict[str, dict[str, Any]]:
        """What the scheduler knows of each worker, by address."""
        workers: dict[str, dict[str, Any]] = self._client.scheduler_info(n_workers=-1)["workers"]
        return workers

    def _check(self) -> None:
        now = time.monotonic()
        if now - self._checked < CHECK_SECONDS:
            return
        self._checked = now
        workers = self._facts()
        before = set(self._workers)
        self._workers = [address for address, facts in workers.items() if not self.needs_gpu or facts["resources"].get("GPU")]
        if before != set(self._workers):
            self._progress.record("workers", there=len(self._workers), gone=sorted(before - set(self._workers)))
        if workers and not self._workers:
            raise InputError(
                f"none of the scheduler's {len(workers)} workers offers a GPU; start them with `--resources GPU=1`, one process a GPU, or use --device cpu"
            )
        if self._keeper is not None:
            self._keeper.check()

    @contextmanager
    def keeping(self, load: Load[object]) -> Iterator[None]:
        """See `Pool.keeping`."""
        from tomostream.cluster.plugins import Keep  # noqa: PLC0415  (imports distributed)

        plugin = Keep(load)
        self._client.register_plugin(plugin)
        try:
            yield
        finally:
            with suppress(CancelledError, OSError, TimeoutError, ValueError):  # lost, or so many restarts that it is gone
                self._client.unregister_worker_plugin(plugin.name)


@contextmanager
def _told() -> Iterator[None]:
    """Say in our words that the scheduler was lost."""
    try:
        yield
    except (CancelledError, OSError, TimeoutError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the client's own disk, not the connection
        raise TomostreamError(
            f"the Dask scheduler was lost ({type(error).__name__}: {first_line(error)}); what is finished is kept: run the same command again to go on"
        ) from None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return (str(error).splitlines() or ["no details"])[0]
