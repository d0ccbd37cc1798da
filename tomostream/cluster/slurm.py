"""SLURM jobs as workers: watch them, and replace those that end.

1. dask-jobqueue writes and submits a job script for each worker; the scheduler lives in the client.
2. Workers leave by themselves before the walltime (`Resources.leave`), not all at once: a leaving worker's task goes to another
   without counting as a death.
3. While tasks remain, `squeue` is asked now and then: jobs that ended (walltime, scancel, a lost node) are submitted again; jobs that wait are
   reported with SLURM's reason.
4. If jobs keep ending without a finished task, it stops: after `ENDS` times the number of workers.
5. Leaving, also by a signal, cancels the jobs.  If the client is killed outright, its workers end when they miss the scheduler.
"""

from __future__ import annotations

import importlib
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tomostream.cluster import security
from tomostream.cluster.dask_pool import first_line
from tomostream.cluster.resources import Resources
from tomostream.errors import InputError, TomostreamError
from tomostream.progress import Progress
from tomostream.remote.home import cache_folder

SQUEUE_SECONDS = 5.0  # between questions to the queue: more often burdens a busy controller
ENDS = 3
NANNY_BYTES = 300 * 10**6  # of Dask's process beside each worker: SLURM counts it
_DEATH_SECONDS = 60  # after which a worker without scheduler ends


@contextmanager
def slurm_cluster(resources: Resources, progress: Progress) -> Iterator[tuple[Any, JobKeeper]]:
    """Submit the jobs; cancel them at the end.

    Raises
    ------
    InputError
        If dask-jobqueue or SLURM are missing, or SLURM refuses the job.
    """
    jobqueue = _jobqueue()
    if shutil.which("sbatch") is None:
        raise InputError("--cluster slurm submits jobs with sbatch, which is not on the PATH here; run it on a node of a SLURM cluster")
    with _started(jobqueue, resources) as cluster:
        security.warn_if_open(cluster.scheduler_address, progress)
        yield cluster, JobKeeper(cluster, resources, progress)


def _jobqueue() -> Any:
    """Import dask-jobqueue, an optional extra, less its handler of Ctrl-C, which ends the program as if all were well."""
    before = signal.getsignal(signal.SIGINT)
    try:
        return importlib.import_module("dask_jobqueue")
    except ImportError:
        raise InputError("--cluster slurm needs dask-jobqueue; install it with: pip install 'tomostream[slurm]'") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _started(jobqueue: Any, resources: Resources) -> Any:
    from distributed.utils import get_ip  # noqa: PLC0415  (distributed takes 0.5 s to import; most commands don't need it)

    encryption = security.configured()
    lifetime, stagger = resources.leave()
    threads, processes = resources.task_threads, resources.processes
    logs = log_folder(resources)
    try:
        logs.mkdir(parents=True, exist_ok=True)
        where = {"interface": resources.interface} if resources.interface else {"host": get_ip()}
        return jobqueue.SLURMCluster(
            cores=threads * processes,
            processes=processes,
            memory=f"{resources.memory * processes}B",
            job_mem=f"{math.ceil((resources.memory + NANNY_BYTES) * processes / 2**20)}M",
            queue=resources.queue,
            account=resources.account,
            walltime=resources.walltime,
            interface=resources.interface,
            security=encryption,
            python=sys.executable,
            job_name="tomostream",
            log_directory=str(logs),
            death_timeout=_DEATH_SECONDS,
            scheduler_options={"dashboard_address": resources.dashboard, "port": resources.port, **where},
            job_extra_directives=[*resources.options, *([f"--gpus={resources.gpus}"] if resources.gpus else [])],
            job_script_prologue=[
                f"export OMP_NUM_THREADS={threads} PYTHONUNBUFFERED=1",
                "export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False",  # 40 MB
            ],
            worker_extra_args=[
                *("--nthreads", "1"),  # one task at a time, on all of the process's cores
                *("--memory-limit", "0"),  # the stages keep their own budget; Dask's nanny would kill on mapped pages
                *("--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{stagger}s"),
                "--no-dashboard",
                *(("--resources", "GPU=1") if resources.gpus else ()),
            ],
        )
    except OSError as error:
        raise InputError(f"the folder of the jobs' logs, {logs}, can't be made: {error.strerror}; set log_folder") from None
    except (RuntimeError, ValueError) as error:  # an interface that is not there, a port that is taken, certificates that don't fit
        raise InputError(f"the scheduler of --cluster slurm can't start: {first_line(error)}") from None


def log_folder(resources: Resources) -> Path:
    """Folder of the jobs' output: on the shared disk, apart from the user's files."""
    if resources.log_folder is not None:
        return Path(resources.log_folder).absolute()
    return cache_folder() / "slurm"


class JobKeeper:
    """Submits the jobs, and again those that ended.

    Parameters
    ----------
    cluster
        A dask-jobqueue cluster without jobs.
    resources
        How many, and where their logs are.
    progress
        Shows what the queue says.
    """

    def __init__(self, cluster: Any, resources: Resources, progress: Progress) -> None:
        self._cluster, self._resources, self._progress = cluster, resources, progress
        self._asked = time.monotonic()
        self._told = ""
        self._ended = 0  # jobs, since a task was finished
        self._submit()

    def note_result(self) -> None:
        """See `dask_pool.Keeper`."""
        self._ended = 0

    def check(self) -> None:
        """See `dask_pool.Keeper`."""
        if time.monotonic() - self._asked < SQUEUE_SECONDS:
            return
        self._asked = time.monotonic()
        jobs = {str(job.job_id): name for name, job in list(self._cluster.workers.items())}
        states = job_states(list(jobs))
        if states is None:
            return  # the controller is busy or restarts; jobs go on without it
        ended = [job for job in jobs if job not in states]
        if ended or len(jobs) < self._resources.workers:
            self._ended += max(len(ended), self._resources.workers - len(jobs))
            self._replace(ended, [jobs[job] for job in ended])
        self._tell([reason for state, reason in states.values() if state == "PENDING"])

    def _replace(self, ended: list[str], names: list[str]) -> None:
        limit = ENDS * self._resources.workers
        if self._ended > limit:
            raise TomostreamError(
                f"{self._ended} SLURM jobs ended or were refused one after the other without a finished task "
                f"(the last: {', '.join(ended) or 'refused'}); their output is in {log_folder(self._resources)}"
            )
        if ended:
            self._progress.say(f"SLURM: job {', '.join(ended)} ended; submitting {'another' if len(ended) == 1 else 'others'}")
        for name in names:
            self._cluster.workers.pop(name, None)
        try:
            self._submit()
        except InputError as error:  # a limit on jobs, or a controller that restarts; running jobs continue
            self._progress.warn(f"{error}; trying again later")

    def _submit(self) -> None:
        cluster = self._cluster
        while len(cluster.worker_spec) < self._resources.workers:
            cluster.worker_spec.update(cluster.new_worker_spec())
        try:
            cluster.sync(cluster._correct_state)  # what `scale` leaves to the background, where SLURM's refusal would be lost
        except RuntimeError as error:
            for name, job in list(cluster.workers.items()):
                if job.job_id is None:
                    cluster.workers.pop(name)
                    cluster._created.discard(job)  # it would be asked to end when the cluster does
            errors = [line.strip().removeprefix("sbatch: error: ") for line in str(error).splitlines() if "error: " in line]
            raise InputError(
                f"SLURM refuses the job: {'; '.join(errors) or first_line(error)}. Correct queue, account, walltime, memory, gpus or options"
            ) from None

    def _tell(self, reasons: list[str]) -> None:
        counts = Counter(reasons)
        text = ", ".join(f"{reason}" if len(counts) == 1 else f"{count} {reason}" for reason, count in sorted(counts.items()))
        told = f"SLURM: {len(reasons)} of {self._resources.workers} jobs wait in the queue ({text})" if reasons else ""
        if told and told != self._told:
            self._progress.say(told)
        self._told = told


def job_states(jobs: list[str]) -> dict[str, tuple[str, str]] | None:
    """State and reason of those jobs that wait or run; None if the controller does not answer."""
    asked = subprocess.run(
        ["squeue", "--noheader", "--user", str(os.getuid()), "--format", "%i|%T|%r"], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        return None
    rows = [line.split("|", 2) for line in asked.stdout.splitlines()]
    return {job: (state, reason) for job, state, reason in rows if job in jobs}
