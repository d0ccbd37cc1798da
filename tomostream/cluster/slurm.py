"""SLURM: workers as jobs of dask-jobqueue, commands as jobs of sbatch.

1. dask-jobqueue writes and submits a job script for each worker; the scheduler lives in the client.
2. Workers leave by themselves before the walltime (`Resources.leave`), not all at once: a leaving worker's task goes to another
   without counting as a death.
3. `JobKeeper` replaces jobs that end.
4. Leaving, also by a signal, cancels the jobs.  If the client is killed outright, its workers end when they miss the scheduler.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tomostream import defaults
from tomostream.cluster import security
from tomostream.cluster.dask_pool import first_line
from tomostream.cluster.job_keeper import JobKeeper
from tomostream.cluster.queue import STARTER_BYTES, JobRequest, JobState, Workers, refusal
from tomostream.cluster.resources import Resources
from tomostream.errors import InputError
from tomostream.progress import Progress

_DEATH_SECONDS = 60  # after which a worker without scheduler ends


class SlurmQueue:
    """See `cluster.queue.JobQueue`."""

    name = "slurm"
    summary = "SLURM jobs, submitted and replaced by tomostream"
    title = "SLURM"
    is_elsewhere = True

    def check(self, resources: Resources) -> None:
        """Refuse times that can't be."""
        resources.leave()

    def check_here(self) -> None:
        """Refuse a machine without sbatch."""
        if shutil.which("sbatch") is None:
            raise InputError("--cluster slurm submits jobs with sbatch, which is not on the PATH here; run it on a node of a SLURM cluster")

    def task_threads(self, resources: Resources) -> int:
        """Return the cores of a job's process."""
        return defaults.JOB_CORES

    @contextmanager
    def workers(self, resources: Resources, progress: Progress, *, needs_gpu: bool) -> Iterator[Workers]:
        """Submit the jobs; cancel them at the end."""
        jobqueue = _jobqueue()
        self.check_here()
        with _started(jobqueue, resources) as cluster:
            security.warn_if_open(cluster.scheduler_address, progress)
            yield Workers(cluster, JobKeeper(cluster, self, resources, progress), share_gpus=resources.processes > 1)

    def header(self, job: JobRequest) -> list[str]:
        """Return the #SBATCH lines."""
        resources = job.resources
        directives = {
            "job-name": job.name,
            "output": str(job.output),
            "chdir": os.getcwd(),
            "nodes": "1",
            "ntasks": "1",
            "cpus-per-task": str(job.threads * job.processes),
            "mem": f"{math.ceil(job.memory / 2**20)}M",
            "time": resources.walltime,
            "partition": resources.queue,
            "account": resources.account,
            "gpus": str(job.gpus) if job.gpus else None,
        }
        return [
            *(f'#SBATCH --{key}="{value}"' for key, value in directives.items() if value is not None),
            "#SBATCH --no-requeue",  # it is submitted again by us
            *(f"#SBATCH {option}" for option in resources.options),
        ]

    def submit(self, script: Path) -> str:
        """Submit by sbatch."""
        done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise refusal(self.title, done.stderr)
        return done.stdout.strip().partition(";")[0]

    def cancel(self, job: str) -> None:
        """Cancel by scancel."""
        subprocess.run(["scancel", "--quiet", job], capture_output=True, check=False)

    def states(self, jobs: list[str]) -> dict[str, JobState] | None:
        """Ask squeue; None if the controller does not answer."""
        asked = subprocess.run(
            ["squeue", "--noheader", "--user", str(os.getuid()), "--format", "%i|%T|%r"], capture_output=True, text=True, check=False
        )
        if asked.returncode:
            return None
        rows = [line.split("|", 2) for line in asked.stdout.splitlines()]
        return {job: JobState(state == "PENDING", reason) for job, state, reason in rows if job in jobs}


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
    threads, processes = resources.threads or defaults.JOB_CORES, resources.processes
    logs = resources.logs
    try:
        logs.mkdir(parents=True, exist_ok=True)
        where = {"interface": resources.interface} if resources.interface else {"host": get_ip()}
        return jobqueue.SLURMCluster(
            cores=threads * processes,
            processes=processes,
            memory=f"{resources.memory * processes}B",
            job_mem=f"{math.ceil((resources.memory + STARTER_BYTES) * processes / 2**20)}M",
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


QUEUE = SlurmQueue()
