"""Which queues are there, and what one says of resources: those of the entry-point group `tomostream.queues`, by the name that `--cluster` gives."""

from __future__ import annotations

from typing import cast

from tomostream import defaults
from tomostream.catalogue import QUEUES, find, installed
from tomostream.cluster.queue import JobQueue, Queue
from tomostream.cluster.resources import Resources
from tomostream.cores import cores_here


def queue_named(name: str) -> Queue | None:
    """Return an installed queue; None for no queue at all: tasks run in this process.

    Raises
    ------
    InputError
        If it is not installed, its package is broken, or it lacks a part of `Queue`.
    """
    return None if name == defaults.CLUSTER else cast(Queue, find(QUEUES, name, "queue", Queue))


def job_queue_named(name: str) -> JobQueue | None:
    """Return an installed queue if it runs commands as jobs; else None.

    Raises
    ------
    InputError
        As `queue_named`.
    """
    found = queue_named(name)
    return found if isinstance(found, JobQueue) else None


def cluster_names() -> list[str]:
    """Return what `--cluster` may say; nothing is imported."""
    return [defaults.CLUSTER, *installed(QUEUES)]


def is_elsewhere(resources: Resources) -> bool:
    """Whether tasks may run on other machines."""
    if resources.scheduler is not None:
        return True
    queue = queue_named(resources.kind)
    return queue is not None and queue.is_elsewhere


def task_threads(resources: Resources) -> int:
    """Return the threads of torch in the process of a task: those given, else what the queue has for one, else this machine's cores."""
    if resources.threads is not None:
        return resources.threads
    queue = queue_named(resources.kind)
    return cores_here() if queue is None else queue.task_threads(resources)


def checked(resources: Resources) -> Resources:
    """Return the resources, if their queue can give them.

    Raises
    ------
    InputError
        If it can't, or it is not installed.
    """
    queue = queue_named(resources.kind)
    if queue is not None:
        queue.check(resources)
    return resources
