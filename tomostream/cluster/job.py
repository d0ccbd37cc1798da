"""Run one long command as a SLURM job of its own, across walltimes: submit, follow, submit again.

1. A script runs the command and, when that ends by itself, leaves its exit code in a file.
2. The job's lines are shown as they come; while it waits, SLURM's reason.
3. A job that ends without exit code (walltime, scancel, a lost node) is submitted again, and the command resumes.  After `ENDS` such jobs
   in a row without progress it stops.
4. Leaving, also by a signal, cancels the job.

Limits: if the client is killed outright, the job continues alone until it is done or its walltime is over.
"""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tomostream.cluster import slurm
from tomostream.cluster.resources import Resources
from tomostream.errors import InputError, TomostreamError
from tomostream.progress import Progress

ENDS = 3
OTHER_BYTES = slurm.NANNY_BYTES  # beside each process's budget: what starts it
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
        If SLURM is missing, or refuses the job.
    TomostreamError
        If the command fails, or its jobs end again and again.
    """
    if shutil.which("sbatch") is None:
        raise InputError("--cluster slurm submits jobs with sbatch, which is not on the PATH here; run it on a node of a SLURM cluster")
    logs = slurm.log_folder(resources)
    try:
        logs.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=logs))
    except OSError as error:
        raise InputError(f"the folder of the jobs' output, {logs}, can't be written: {error.strerror}; set log_folder") from None
    ended, before, number = 0, mark(), 0
    while True:
        script = folder / f"{number}.sh"
        script.write_text(
            job_script(command(folder, number), resources, name=name, processes=processes, gpus=gpus, output=script.with_suffix(""))
        )
        with _submitted(script) as job:
            progress.say(f"SLURM: job {job} ({name}); its output is in {script.with_suffix('.out')}")
            outcome = _followed(job, script, progress)
        if outcome.code == 0:
            return
        if outcome.code is not None:
            raise TomostreamError(outcome.error or f"SLURM job {job} failed (exit code {outcome.code}); see {script.with_suffix('.out')}")
        after = mark()
        ended, before, number = (1 if after != before else ended + 1), after, number + 1
        if ended >= ENDS:
            raise TomostreamError(
                f"{ENDS} SLURM jobs ended one after the other without finishing an epoch (the last: {job}); their output is in {folder}. "
                "Is the walltime long enough?"
            )
        progress.say(f"SLURM: job {job} ended (walltime, scancel or a lost node?); submitting another, which goes on from the checkpoint")


def job_script(command: Sequence[str], resources: Resources, *, name: str, processes: int, gpus: int, output: Path) -> str:
    """Write the batch script; `output` with `.out` and `.exit` are where the job's lines and its exit code go."""
    threads = resources.task_threads
    directives = {
        "job-name": name,
        "output": f"{output}.out",
        "chdir": os.getcwd(),
        "nodes": "1",
        "ntasks": "1",
        "cpus-per-task": str(threads * processes),
        "mem": f"{math.ceil((resources.memory + OTHER_BYTES) * processes / 2**20)}M",
        "time": resources.walltime,
        "partition": resources.queue,
        "account": resources.account,
        "gpus": str(gpus) if gpus else None,
    }
    quoted = shlex.quote(f"{output}.exit")
    lines = [
        "#!/bin/bash",
        *(f'#SBATCH --{key}="{value}"' for key, value in directives.items() if value is not None),
        "#SBATCH --no-requeue",  # it is submitted again by us
        *(f"#SBATCH {option}" for option in resources.options),
        f"export OMP_NUM_THREADS={threads} PYTHONUNBUFFERED=1",
        "trap 'ended=yes' TERM",
        shlex.join(command),
        "code=$?",
        f'[ -n "$ended" ] || {{ echo $code > {quoted}.new && mv {quoted}.new {quoted}; }}',
        "exit $code",
    ]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _submitted(script: Path) -> Iterator[str]:
    """Submit a script; cancel the job at the end, if it is still there."""
    done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line.strip().removeprefix("sbatch: error: ") for line in done.stderr.splitlines() if "error: " in line]
        raise InputError(
            f"SLURM refuses the job: {'; '.join(errors) or done.stderr.strip()}. Mend queue, account, walltime, memory, gpus or options"
        )
    job = done.stdout.strip().partition(";")[0]
    try:
        yield job
    finally:
        subprocess.run(["scancel", "--quiet", job], capture_output=True, check=False)


def _followed(job: str, script: Path, progress: Progress) -> Outcome:
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
        if now - asked >= slurm.SQUEUE_SECONDS and gone == math.inf:
            asked = now
            states = slurm.job_states([job])
            if states is not None and job not in states:
                gone = now
            elif states is not None and states[job][0] == "PENDING" and states[job][1] not in (told, "None"):  # None: not looked at yet
                told = states[job][1]
                progress.say(f"SLURM: job {job} waits in the queue ({told})")
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
