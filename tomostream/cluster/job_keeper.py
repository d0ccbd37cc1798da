"""Watch the jobs of workers, and replace those that end; for clusters of dask-jobqueue.

1. While tasks remain, the queue is asked now and then: jobs that ended (walltime, cancelled, a lost node) are submitted again; jobs that wait are
   reported with the queue's reason.
2. If jobs keep ending without a finished task, it stops: after `ENDS` times the number of workers.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from tomostream.cluster.queue import JobQueue, refusal
from tomostream.cluster.resources import Resources
from tomostream.errors import InputError, TomostreamError
from tomostream.progress import Progress

ASK_SECONDS = 5.0  # between questions to the queue: more often burdens a busy controller
ENDS = 3


class JobKeeper:
    """Submits the jobs, and again those that ended.

    Parameters
    ----------
    cluster
        A dask-jobqueue cluster without jobs.
    queue
        That the jobs wait in.
    resources
        How many, and where their logs are.
    progress
        Shows what the queue says.
    """

    def __init__(self, cluster: Any, queue: JobQueue, resources: Resources, progress: Progress) -> None:
        self._cluster, self._queue, self._resources, self._progress = cluster, queue, resources, progress
        self._asked = time.monotonic()
        self._told = ""
        self._ended = 0  # jobs, since a task was finished
        self._submit()

    def note_result(self) -> None:
        """See `queue.Keeper`."""
        self._ended = 0

    def check(self) -> None:
        """See `queue.Keeper`."""
        if time.monotonic() - self._asked < ASK_SECONDS:
            return
        self._asked = time.monotonic()
        jobs = {str(job.job_id): name for name, job in list(self._cluster.workers.items())}
        states = self._queue.states(list(jobs))
        if states is None:
            return  # the queue is busy or restarts; jobs go on without it
        ended = [job for job in jobs if job not in states]
        if ended or len(jobs) < self._resources.workers:
            self._ended += max(len(ended), self._resources.workers - len(jobs))
            self._replace(ended, [jobs[job] for job in ended])
        self._tell([state.reason for state in states.values() if state.is_waiting])

    def _replace(self, ended: list[str], names: list[str]) -> None:
        limit = ENDS * self._resources.workers
        if self._ended > limit:
            raise TomostreamError(
                f"{self._ended} {self._queue.title} jobs ended or were refused one after the other without a finished task "
                f"(the last: {', '.join(ended) or 'refused'}); their output is in {self._resources.logs}"
            )
        if ended:
            self._progress.say(
                f"{self._queue.title}: job {', '.join(ended)} ended; submitting {'another' if len(ended) == 1 else 'others'}"
            )
        for name in names:
            self._cluster.workers.pop(name, None)
        try:
            self._submit()
        except InputError as error:  # a limit on jobs, or a controller that restarts; those that run go on
            self._progress.warn(f"{error}; trying again later")

    def _submit(self) -> None:
        cluster = self._cluster
        while len(cluster.worker_spec) < self._resources.workers:
            cluster.worker_spec.update(cluster.new_worker_spec())
        try:
            cluster.sync(cluster._correct_state)  # what `scale` leaves to the background, where the queue's refusal would be lost
        except RuntimeError as error:
            for name, job in list(cluster.workers.items()):
                if job.job_id is None:
                    cluster.workers.pop(name)
                    cluster._created.discard(job)  # it would be asked to end when the cluster does
            raise refusal(self._queue.title, str(error)) from None

    def _tell(self, reasons: list[str]) -> None:
        counts = Counter(reasons)
        text = ", ".join(f"{reason}" if len(counts) == 1 else f"{count} {reason}" for reason, count in sorted(counts.items()))
        told = f"{self._queue.title}: {len(reasons)} of {self._resources.workers} jobs wait in the queue ({text})" if reasons else ""
        if told and told != self._told:
            self._progress.say(told)
        self._told = told
