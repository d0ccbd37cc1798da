"""Open the pool that was requested: start it or join it, and shut it down at the end."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tomostream.cluster import security
from tomostream.cluster.dask_pool import DaskPool, first_line
from tomostream.cluster.pools import Pool, ThreadPool
from tomostream.cluster.queues import queue_named, task_threads
from tomostream.cluster.resources import Resources
from tomostream.errors import InputError
from tomostream.progress import Progress

CONNECT_SECONDS = 10  # a scheduler that works answers at once
_ADDRESS = re.compile(r"^[\w.\-]+:\d+$|^\[[0-9a-fA-F:]+\]:\d+$")


@contextmanager
def open_pool(resources: Resources, progress: Progress, *, needs_gpu: bool | None = False) -> Iterator[Pool]:
    """Start (or join) the workers, and shut them down at the end.

    With `kind` none, `workers` are threads of this process, for input and output.

    Parameters
    ----------
    resources
        Where to run.
    progress
        Shows the dashboard's address, jobs that wait, connections that are not encrypted.
    needs_gpu
        Only workers with a GPU take tasks, one process a GPU; None: if a running scheduler's workers have them.

    Raises
    ------
    InputError
        If the scheduler can't be reached, or what the queue needs is missing, or it refuses.
    """
    if resources.scheduler is not None:
        with _quiet(), _join(resources.scheduler) as client:
            security.warn_if_open(client.scheduler.address, progress)
            if not client.nthreads():
                progress.warn(
                    f"the scheduler {resources.scheduler} has no worker yet; waiting for one (`dask worker {resources.scheduler}`)"
                )
            yield DaskPool(client, threads=resources.threads, progress=progress, needs_gpu=needs_gpu, keeper=None)
    elif (queue := queue_named(resources.kind)) is not None:
        threads = resources.threads or queue.task_threads(resources)
        with (
            _quiet(),
            queue.workers(resources, progress, needs_gpu=bool(needs_gpu)) as started,
            _client(started.cluster, progress) as client,
        ):
            if started.share_gpus:
                _share_gpus(client)
            yield DaskPool(client, threads=threads, progress=progress, needs_gpu=needs_gpu, keeper=started.keeper)
    elif resources.workers == 1:
        yield Pool(task_threads(resources))
    else:
        with ThreadPoolExecutor(resources.workers) as executor:
            yield ThreadPool(executor, resources.workers, task_threads(resources))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Dask's tracebacks, and without its profiler in what we start: its last 1000 seconds take 40 MB of each process."""
    import dask  # noqa: PLC0415  (as distributed, not for every command)
    import distributed  # noqa: F401, PLC0415  (brings the configuration's defaults, before one is replaced)

    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # it prints tracebacks of errors that we report ourselves
    try:
        with dask.config.set({"distributed.worker.profile.enabled": False}):
            yield
    finally:
        logger.setLevel(before)


@contextmanager
def _client(cluster: Any, progress: Progress) -> Iterator[Any]:
    from tomostream.cluster.client import ClosingClient  # noqa: PLC0415  (distributed takes 0.5 s to import; most commands don't need it)

    with ClosingClient(cluster, set_as_default=False) as client:
        if importlib.util.find_spec("bokeh") is not None:  # else there is no dashboard
            progress.say(f"dashboard: {client.dashboard_link}")
        yield client


def _share_gpus(client: Any) -> None:
    from tomostream.cluster.plugins import OneGpu  # noqa: PLC0415  (imports distributed)

    client.register_plugin(OneGpu())


def _join(scheduler: str) -> Any:
    """Connect to a running scheduler by its address or its file."""
    is_address = "://" in scheduler or (_ADDRESS.match(scheduler) is not None and not Path(scheduler).exists())
    if not is_address and not Path(scheduler).is_file():
        raise InputError(f"--scheduler {scheduler} is neither a file nor an address; give tcp://HOST:PORT or a scheduler file")
    from tomostream.cluster.client import ClosingClient  # noqa: PLC0415  (as above)

    where = {"address": scheduler} if is_address else {"scheduler_file": scheduler}
    try:
        return ClosingClient(timeout=f"{CONNECT_SECONDS}s", set_as_default=False, **where)
    except Exception as error:  # any error of address, file, name server or TLS settings
        raise InputError(
            f"--scheduler {scheduler}: no Dask scheduler answers there ({type(error).__name__}: {first_line(error)}); "
            "give tcp://HOST:PORT (tls://HOST:PORT with Dask's TLS settings) or a scheduler file"
        ) from None
