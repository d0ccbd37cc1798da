"""Processes of this machine as workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tomostream.cluster import security
from tomostream.cluster.queue import QUIET_END, Workers
from tomostream.cluster.resources import Resources
from tomostream.cores import cores_here
from tomostream.progress import Progress


class LocalQueue:
    """See `cluster.queue.Queue`."""

    name = "local"
    summary = "processes of this machine"
    is_elsewhere = False

    def check(self, resources: Resources) -> None:
        """Accept all."""

    def task_threads(self, resources: Resources) -> int:
        """Return this machine's cores, divided among the workers."""
        return max(1, cores_here() // resources.workers)

    @contextmanager
    def workers(self, resources: Resources, progress: Progress, *, needs_gpu: bool) -> Iterator[Workers]:
        """Start the processes, on loopback only."""
        from distributed import LocalCluster  # noqa: PLC0415  (distributed takes 0.5 s to import; most commands don't need it)

        encryption = security.configured()
        with LocalCluster(
            n_workers=resources.workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,  # the stages keep their own budget; Dask's nanny would kill on mapped pages
            host="127.0.0.1",
            protocol="tls://" if encryption else "tcp://",
            security=encryption,
            dashboard_address=resources.dashboard,
            resources={"GPU": 1} if needs_gpu else None,
            preload=QUIET_END,
        ) as cluster:
            yield Workers(cluster, share_gpus=needs_gpu)


QUEUE = LocalQueue()
