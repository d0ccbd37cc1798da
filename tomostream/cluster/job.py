"""Run one long command as a job of its own, across walltimes: submit, follow, submit again.

1. A script runs the command and, when that ends by itself, leaves its exit code in a file.
2. The job's lines are shown as they come; while it waits, the queue's reason.
3. A job that ends without exit code (walltime, cancelled, a lost node) is submitted again, and the command resumes.  After `ENDS` such jobs
   in a row without progress it stops.
4. Leaving, also by a signal, cancels the job.

Limits: if the client is killed outright, the job continues alone until it is done or its walltime is over.
"""

from __future__ import annotations

import contextlib
import math
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tomostream.cluster import job_keeper
from tomostream.cluster.queue import JobQueue, JobRequest
from tomostream.cluster.resources import Resources
from tomostream.errors import InputError, TomostreamError
from tomostream.progress import Progress

ENDS = 3
_LOOK_SECONDS = 0.5  # between looks at the job's output
_LATE_SECONDS = 5.0  # a shared disk may show the exit code this much after the job is gone
_ERROR = "tomostream: error: "
_SIGNALLED = (130, 143)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: its exit code, None if it was ended from outside; and what it said went wrong."""

    code: int | None
    error: str


def run_job(
    command: Callable[[Path, int], Sequence[str]],
    queue: JobQueue,
    resources: Resources,
    *,
    name: str,
    processes: int,
    gpus: int,
    progress: Progress,
    mark: Callable[[], object],
) -> None:
    """Run a command that goes on where it was, in as many jobs as it takes, one after the other.

    Parameters
    ----------
    command
        From a folder for what the command reads, and the number of the job (from 0), to what is run.
    queue
        That takes the jobs.
    resources
        Queue, account, walltime, threads and memory of a process, options, folder of the jobs' output.
    name
        Of the jobs.
    processes, gpus
        In the job, on one node.
    progress
        Shows the job's lines, and what the queue says.
    mark
        Gives another value whenever the command has come further.

    Raises
    ------
    InputError
        If the queue is missing, or refuses the job.
    TomostreamError
        If the command fails, or its jobs end again and again.
    """
    queue.check_here()
    logs = resources.logs
    try:
        logs.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=logs))
    except OSError as error:
        raise InputError(f"the folder of the jobs' output, {logs}, can't be written: {error.strerror}; set log_folder") from None
    ended, before, number = 0, mark(), 0
    while True:
        script = folder / f"{number}.sh"
        output = script.with_suffix(".out")
        threads = resources.threads or queue.task_threads(resources)
        asked = JobRequest(name=name, resources=resources, processes=processes, gpus=gpus, threads=threads, output=output)
        script.write_text(job_script(command(folder, number), queue, asked))
        with _submitted(queue, script) as job:
            progress.say(f"{queue.title}: job {job} ({name}); its output is in {output}")
            outcome = _followed(queue, job, script, progress)
        if outcome.code == 0:
            return
        if outcome.code is not None:
            raise TomostreamError(outcome.error or f"{queue.title} job {job} failed (exit code {outcome.code}); see {output}")
        after = mark()
        ended, before, number = (1 if after != before else ended + 1), after, number + 1
        if ended >= ENDS:
            raise TomostreamError(
                f"{ENDS} {queue.title} jobs ended one after the other without finishing an epoch (the last: {job}); their output is in {folder}. "
                "Is the walltime long enough?"
            )
        progress.say(
            f"{queue.title}: job {job} ended (walltime, cancelled, or a lost node?); submitting another, which goes on from the checkpoint"
        )


def job_script(command: Sequence[str], queue: JobQueue, job: JobRequest) -> str:
    """Write the batch script; it leaves the command's exit code beside the output, in a file that ends in `.exit`."""
    quoted = shlex.quote(str(job.output.with_suffix(".exit")))
    lines = [
        "#!/bin/bash",
        *queue.header(job),
        f"export OMP_NUM_THREADS={job.threads} PYTHONUNBUFFERED=1",
        "trap 'ended=yes' TERM",
        shlex.join(command),
        "code=$?",
        f'[ -n "$ended" ] || {{ echo $code > {quoted}.new && mv {quoted}.new {quoted}; }}',
        "exit $code",
    ]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _submitted(queue: JobQueue, script: Path) -> Iterator[str]:
    """Submit a script; cancel the job at the end, if it is still there."""
    job = queue.submit(script)
    try:
        yield job
    finally:
        queue.cancel(job)


def _followed(queue: JobQueue, job: str, script: Path, progress: Progress) -> Outcome:
    """Tell what the job says until it is over."""
    lines = _Lines(script.with_suffix(".out"), progress)
    exit_file = script.with_suffix(".exit")
    told, asked, gone = "", -math.inf, math.inf
    while True:
        lines.tell()
        now = time.monotonic()
        if exit_file.is_file():
            lines.tell()
            code = int(exit_file.read_text())
            # torchrun replaces the exit code by its own
            is_ended = code in _SIGNALLED or lines.error.startswith("interrupted")
            return Outcome(None if is_ended else code, lines.error)
        if now - gone > _LATE_SECONDS:
            return Outcome(None, lines.error)
        if now - asked >= job_keeper.ASK_SECONDS and gone == math.inf:
            asked = now
            states = queue.states([job])
            if states is not None and job not in states:
                gone = now
            elif states is not None and states[job].is_waiting and states[job].reason not in (told, "", "None"):  # None: not looked at yet
                told = states[job].reason
                progress.say(f"{queue.title}: job {job} waits in the queue ({told})")
        time.sleep(_LOOK_SECONDS)


class _Lines:
    """Follow a growing file line by line up to an error, which is kept: what follows it is not ours."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._path, self._progress = path, progress
        self._offset = 0
        self.error = ""

    def tell(self) -> None:
        """Tell the whole lines that came since."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if self.error:
                return
            if line.startswith(_ERROR):
                self.error = line.removeprefix(_ERROR)
            elif line.strip():
                self._progress.say(line)
