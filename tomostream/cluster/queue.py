"""What a queue must do: start the workers of a stage, and, where it runs jobs, take a command as one.

A queue is an object that its package names in the entry-point group `tomostream.queues`, under the name that `--cluster` gives; importing it must
not import Dask.  `tomostream.testing.QueueTests` checks whether one keeps its promises; docs/extending.md has a recipe.

`Resources` are the words that all queues share (workers, memory, walltime, ...); what only one of them knows goes through `Resources.options`, in its
own words.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tomostream.cluster.resources import Resources
from tomostream.errors import InputError
from tomostream.progress import Progress

STARTER_BYTES = 300 * 10**6  # of what starts a process, beside its own budget: a queue that holds jobs to their memory counts it

# the `preload` of a `LocalCluster`, so that its workers end at once and print nothing: a terminal's Ctrl-C reaches them too, and each would
# print a traceback, as would a heartbeat that is cut off when the client ends them; what goes wrong in a task comes back as its result
QUIET_END = """import atexit, logging, os, signal
atexit.register(os._exit, 0)  # taking torch down takes seconds, and the client would wait
signal.signal(signal.SIGINT, signal.SIG_IGN)
for name in ("distributed", "distributed.core", "distributed.worker", "distributed.worker.state_machine"):
    logging.getLogger(name).setLevel(logging.CRITICAL)
"""


@runtime_checkable  # the tests check annotations as they run
class Keeper(Protocol):
    """Looks after what the workers run in."""

    def check(self) -> None:
        """Replace what ended.

        Raises
        ------
        TomostreamError
            If that is hopeless.
        """

    def note_result(self) -> None:
        """A task was finished."""


@dataclass(frozen=True, slots=True)
class Workers:
    """What a queue started.

    Parameters
    ----------
    cluster
        A Dask cluster, as `distributed.Client` takes it.
    keeper
        Of the jobs in which the workers run; None: there are none to look after.
    share_gpus
        Whether several processes see the same GPUs, so that each must keep to one.
    """

    cluster: Any
    keeper: Keeper | None = None
    share_gpus: bool = False


@runtime_checkable
class Queue(Protocol):
    """A way to get workers.

    Attributes
    ----------
    name
        What `--cluster` says.
    summary
        One line.
    is_elsewhere
        Whether workers may run on other machines, so that they are asked what they are before anything is planned.
    """

    name: str
    summary: str
    is_elsewhere: bool

    def check(self, resources: Resources) -> None:
        """Refuse resources that can't be; starts nothing, so that a dry run can ask anywhere.

        Raises
        ------
        InputError
            With the value found and what is allowed.
        """

    def task_threads(self, resources: Resources) -> int:
        """Return the threads of torch in the process of a task, where the user gives none."""

    def workers(self, resources: Resources, progress: Progress, *, needs_gpu: bool) -> AbstractContextManager[Workers]:
        """Start `resources.workers` workers with one task at a time each, and end them when the context is left, also by an error.

        Workers with a GPU offer the Dask resource `GPU`; if `needs_gpu`, all must.

        Raises
        ------
        InputError
            If something is missing, or the queue refuses.
        """


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job of one command.

    Parameters
    ----------
    name
        Of the job.
    resources
        Queue, account, walltime, options.
    processes, gpus
        In the job, on one node.
    threads
        Cores of a process.
    output
        File that gets the job's lines.
    """

    name: str
    resources: Resources
    processes: int
    gpus: int
    threads: int
    output: Path

    @property
    def memory(self) -> int:
        """Of all processes and what starts them, bytes."""
        return (self.resources.memory + STARTER_BYTES) * self.processes


@dataclass(frozen=True, slots=True)
class JobState:
    """Of a job that has not ended: whether it waits, and why, in the queue's words ("" or "None": not known)."""

    is_waiting: bool
    reason: str


@runtime_checkable
class JobQueue(Queue, Protocol):
    """A queue that runs commands as jobs: a training is one.

    Attributes
    ----------
    title
        What messages call it.
    """

    title: str

    def check_here(self) -> None:
        """Refuse a machine from which no job can be submitted, before any work.

        Raises
        ------
        InputError
            With what is missing, and how to install it.
        """

    def header(self, job: JobRequest) -> list[str]:
        """Return the lines of the job's script that say what it needs, its working folder (this one) and its output."""

    def submit(self, script: Path) -> str:
        """Submit a script; return the job's number.

        Raises
        ------
        InputError
            If the queue refuses it (`refusal`).
        """

    def cancel(self, job: str) -> None:
        """End a job, if it is still there."""

    def states(self, jobs: list[str]) -> dict[str, JobState] | None:
        """Return the states of those jobs that wait or run; None if the queue does not answer."""


def refusal(title: str, text: str) -> InputError:
    """Return the error for a job that a queue refused, from what its command said."""
    errors = [line.partition("error: ")[2].strip() for line in text.splitlines() if "error: " in line]
    said = "; ".join(errors) or (text.strip().splitlines() or ["no details"])[0]
    return InputError(f"{title} refuses the job: {said}. Correct queue, account, walltime, memory, gpus or options")
