"""Resources of a stage: where its tasks run, on how many workers, in how much memory; times in the forms of queues and of Dask."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.remote.home import cache_folder

if TYPE_CHECKING:
    from tomostream.config import Cluster

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_GRACE_SECONDS = 120  # before the walltime: a worker's last tasks, and its leave
_STAGGER_SECONDS = 600  # at most: workers that started together don't leave together


@dataclass(frozen=True, slots=True)
class Resources:
    """Where to run and with what: `kind` none or the name of a queue, or the address or file of a running scheduler."""

    kind: str = defaults.CLUSTER
    scheduler: str | None = None
    workers: int = defaults.WORKERS  # processes, or jobs
    threads: int | None = None  # of torch, for a process
    memory: int = 2 * 10**9  # bytes, of one process
    gpu_memory: int | None = None  # bytes, of one process; None: four fifths of it
    queue: str | None = None
    account: str | None = None
    walltime: str = defaults.WALLTIME
    gpus: int = 0  # of a job: one process each
    train_processes: int = 1  # of a training, in its job; each has a GPU if there are any
    options: tuple[str, ...] = ()  # further lines of a job's script, in the queue's words
    interface: str | None = None  # of the network between nodes
    port: int = 0  # of the scheduler; 0: any that is free
    dashboard: str = defaults.DASHBOARD
    lifetime: str | None = None  # after which a worker leaves; none: from the walltime
    lifetime_stagger: str | None = None
    log_folder: str | None = None  # of the jobs' output

    @classmethod
    def configured(cls, given: Cluster, memory: int, gpu_memory: int | None = None) -> Resources:
        """Read the configuration's values; the budgets of one process are in bytes."""
        return cls(**given.model_dump() | {"options": tuple(given.options), "memory": memory, "gpu_memory": gpu_memory})

    @property
    def is_distributed(self) -> bool:
        """Whether tasks leave this process."""
        return self.scheduler is not None or self.kind != defaults.CLUSTER

    @property
    def local_threads(self) -> int:
        """Threads for input and output in the process of a task: `workers`, unless these are processes."""
        return 1 if self.is_distributed else self.workers

    @property
    def logs(self) -> Path:
        """Folder of the jobs' output: on the shared disk, apart from the user's files."""
        if self.log_folder is not None:
            return Path(self.log_folder).absolute()
        return cache_folder() / self.kind

    @property
    def processes(self) -> int:
        """Worker processes of one job: one for each of its GPUs."""
        return max(1, self.gpus)

    def leave(self) -> tuple[int, int]:
        """Return after how many seconds a worker leaves, and by how many seconds that varies between workers.

        Derived from the walltime W where not given: stagger = min(10 min, W / 10), lifetime = W - min(2 min, W / 10) - stagger, so
        that the last one leaves before the queue would kill it.

        Raises
        ------
        InputError
            If a time can't be read, or workers would not leave before the walltime.
        """
        walltime = seconds_of(self.walltime, "walltime")
        given = None if self.lifetime_stagger is None else seconds_of(self.lifetime_stagger, "lifetime_stagger")
        stagger = min(_STAGGER_SECONDS, walltime // 10) if given is None else given
        if self.lifetime is None:
            lifetime = walltime - min(_GRACE_SECONDS, walltime // 10) - stagger
        else:
            lifetime = seconds_of(self.lifetime, "lifetime")
        if not (stagger < lifetime and lifetime + stagger < walltime):
            raise InputError(
                f"lifetime {lifetime} s with stagger {stagger} s does not fit the walltime of {walltime} s: "
                "0 < lifetime - stagger and lifetime + stagger < walltime are needed; leave both out to derive them from the walltime"
            )
        return lifetime, stagger


def seconds_of(text: str, where: str) -> int:
    """Seconds of a time: in the form of queues, M, M:S, H:M:S, D-H, D-H:M, D-H:M:S, or a number with s, m, h or d.

    >>> seconds_of("1-12", "walltime"), seconds_of("04:00:00", "walltime"), seconds_of("90", "walltime"), seconds_of("55m", "lifetime")
    (129600, 14400, 5400, 3300)

    Raises
    ------
    InputError
        If it is not one of these, or zero.
    """
    simple = re.fullmatch(r"(\d+)([smhd])", text)
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if simple is not None:
        seconds = int(simple[1]) * _UNITS[simple[2]]
    elif clock is not None:
        days, *rest = clock.groups()
        parts = [int(part) for part in rest if part is not None]
        if days is not None:  # hours first
            hours, minutes, secs = [*parts, 0, 0][:3]
        else:  # one number: minutes; two: minutes and seconds
            hours, minutes, secs = {1: [0, *parts, 0], 2: [0, *parts], 3: parts}[len(parts)]
        seconds = int(days or 0) * 86400 + hours * 3600 + minutes * 60 + secs
    else:
        seconds = 0
    if seconds == 0:
        raise InputError(f"{where}: a time such as 04:00:00, 1-12:00:00, 90 (minutes) or 55m is needed, found '{text}'")
    return seconds
