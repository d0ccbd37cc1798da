"""How many cores may this process use?  Those that it may run on, or fewer where its control group has a quota of processor time.

Containers (`docker --cpus=2`), Kubernetes and systemd limit a process by a quota, which neither `os.cpu_count` nor the scheduler's affinity shows.
With more threads than that all of them are stopped for a part of each period, in the middle of a step.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def cores_here() -> int:
    """Return the cores that this process may use: by its affinity and its quota (rounded down), at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # not on macOS
    quota = own_quota()
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def own_quota() -> float | None:
    """Return this process's quota, cores; None where there is none."""
    return quota_of(_OWN_GROUPS, _CONTROL_GROUPS)


def quota_of(own: Path, mounted: Path) -> float | None:
    """Return the least quota of a process's control group and those above it, cores; None where there is none.

    Parameters
    ----------
    own
        The file that names the groups (`/proc/self/cgroup`).
    mounted
        Where the groups are mounted (`/sys/fs/cgroup`); of version 2, or of version 1 with a folder for each controller.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except (OSError, ValueError):
        return None
    found: list[float] = []
    for line in lines:
        if len(line) != 3:
            continue
        _, controllers, group = line
        if controllers == "":
            root = mounted
        elif "cpu" in controllers.split(","):
            root = next((mounted / name for name in (controllers, "cpu") if (mounted / name).is_dir()), mounted / "cpu")
        else:
            continue
        below = PurePosixPath(group.lstrip("/"))
        for folder in {root / part for part in (below, *below.parents)}:  # in a container the group may be mounted as the root
            quota = _quota(folder)
            if quota is not None:
                found.append(quota)
    return min(found, default=None)


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        cores = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # `max`: no limit
        return None
    return cores if cores > 0 else None
