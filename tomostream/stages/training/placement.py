"""Where is a model trained?  In this process, or in its own job, depending on `cluster` in the configuration.

With a queue that runs commands as jobs a training is one job (its steps follow each other, so there is nothing to hand out), with the queue, walltime and
memory of the other jobs, one GPU if they have some, and `train_processes` processes under torchrun.

1. Here: read the clicks and tables, so that mistakes are reported before anything waits in a queue; a finished model is left as it is.
2. The configuration is written for the job, which runs `tomostream train` on it.
3. A job that ends at its walltime is submitted again, and resumes from its checkpoint (`cluster.job`).
"""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tomostream import defaults
from tomostream.cluster.queue import JobQueue
from tomostream.cluster.queues import job_queue_named, task_threads
from tomostream.errors import InputError
from tomostream.learn.training_files import CHECKPOINT_NAME, newest
from tomostream.redaction import redacted
from tomostream.remote.copies import work_folder
from tomostream.remote.places import Place, RemotePath
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.stages.training.model_state import is_trained
from tomostream.stages.training.stage import train_together

if TYPE_CHECKING:
    from tomostream.progress import Progress

JOB_NAME = "tomostream-train"


def train_where_asked(run: ResolvedRun, folder: Place, *, overwrite: bool, progress: Progress) -> None:
    """Train a run, resolved with its clicks, into a folder: here, or in jobs if the queue runs commands and no scheduler is given.

    Raises
    ------
    TomostreamError
        As `train_together`; if the queue refuses the job, or its jobs end again and again.
    """
    resources = run.resources
    queue = job_queue_named(resources.kind)
    if queue is None or resources.scheduler is not None:
        train_together(lambda: run, folder, device=run.learning.device, overwrite=overwrite, progress=progress)
    elif is_trained(run, folder, processes=resources.train_processes):
        progress.say(f"model {folder} is already trained with these settings")
    else:
        _train_in_jobs(queue, run, folder, overwrite, progress)


def _train_in_jobs(queue: JobQueue, run: ResolvedRun, folder: Place, overwrite: bool, progress: Progress) -> None:
    from tomostream.cluster.job import run_job

    resources = run.resources
    processes, threads = resources.train_processes, task_threads(resources)
    values = copy.deepcopy(dict(run.values))
    if resources.gpus and run.predict.device == "auto":
        values["predict"]["device"] = "cuda"  # a node without its GPU is an error, never a silent change to the processor
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    if redacted(text) != text:
        raise InputError(
            "a URL in the configuration holds a password or signature, which is never written into a job's files: "
            "put credentials into their standard places, or train with --cluster none"
        )

    def command(logs: Path, number: int) -> list[str]:
        given = logs / "train.yaml"
        given.write_text(text, encoding="utf-8")
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
        what = ["-m", "tomostream", "train", str(given), "-o", str(folder), "--cluster", defaults.CLUSTER, "--threads", str(threads)]
        # only once: a second job continues what the first began
        return [sys.executable, *start, *what, *(["--overwrite"] if overwrite and number == 0 else [])]

    trained = work_folder(folder, "training") if isinstance(folder, RemotePath) else folder

    def mark() -> int | None:
        checkpoint = newest(trained, CHECKPOINT_NAME)
        return checkpoint.stat().st_mtime_ns if checkpoint.exists() else None

    run_job(
        command,
        queue,
        replace(resources, threads=threads),
        name=JOB_NAME,
        processes=processes,
        gpus=processes if resources.gpus else 0,
        progress=progress,
        mark=mark,
    )
