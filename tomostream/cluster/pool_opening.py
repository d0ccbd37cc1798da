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
from tomostream.cluster.resources import Resources
from tomostream.cluster.slurm import slurm_cluster
from tomostream.errors import InputError
from tomostream.progress import Progress

CONNECT_SECONDS = 10  # a scheduler that works answers at once
_ADDRESS = re.compile(r"^[\w.\-]+:\d+$|^\[[0-9a-fA-F:]+\]:\d+$")

# a terminal's Ctrl-C reaches the workers too, and each would print a traceback, as would a heartbeat that is cut off when the client ends
# them; what goes wrong in a task comes back as its result
_QUIET_END = """import atexit, logging, os, signal
atexit.register(os._exit, 0)  # taking torch down takes seconds, and the client would wait
signal.signal(signal.SIGINT, signal.SIG_IGN)
for name in ("distributed", "distributed.core", "distributed.worker", "distributed.worker.state_machine"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
"""


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
        If the scheduler can't be reached, or the extra `slurm` or SLURM itself is missing, or refuses.
    """
    if resources.scheduler is not None:
        with _quiet(), _join(resources.scheduler) as client:
            security.warn_if_open(client.scheduler.address, progress)
            if not client.nthreads():
                progress.warn(
                    f"the scheduler {resources.scheduler} has no worker yet; waiting for one (`dask worker {resources.scheduler}`)"
                )
            yield DaskPool(client, threads=resources.threads, progress=progress, needs_gpu=needs_gpu, keeper=None)
    elif resources.kind == "slurm":
        with _quiet(), slurm_cluster(resources, progress) as (cluster, keeper), _client(cluster, progress) as client:
            if resources.processes > 1:
                _share_gpus(client)
            yield DaskPool(client, threads=resources.task_threads, progress=progress, needs_gpu=needs_gpu, keeper=keeper)
    elif resources.kind == "local":
        with _quiet(), _local(resources, bool(needs_gpu)) as cluster, _client(cluster, progress) as client:
            if needs_gpu:
                _share_gpus(client)
            yield DaskPool(client, threads=resources.task_threads, progress=progress, needs_gpu=needs_gpu, keeper=None)
    elif resources.workers == 1:
        yield Pool(resources.task_threads)
    else:
        with ThreadPoolExecutor(resources.workers) as executor:
            yield ThreadPool(executor, resources.workers, resources.task_threads)


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


def _local(resources: Resources, needs_gpu: bool) -> Any:
    from distributed import LocalCluster  # noqa: PLC0415  (as above)

    encryption = security.configured()
    return LocalCluster(
        n_workers=resources.workers,
        threads_per_worker=1,
        processes=True,
        memory_limit=None,  # the stages keep their own budget; Dask's nanny would kill on mapped pages
        host="127.0.0.1",
        protocol="tls://" if encryption else "tcp://",
        security=encryption,
        dashboard_address=resources.dashboard,
        resources={"GPU": 1} if needs_gpu else None,
        preload=_QUIET_END,
    )
