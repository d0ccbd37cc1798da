"""Tasks for the tests of the cluster; workers import this module."""

import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tomostream.cluster import resident
from tomostream.errors import InputError, MachineError


def square(n):
    return n * n


def refuse_odd(n):
    if n % 2:
        raise InputError(f"{n} is odd")
    return n


def die_once(task):
    """Kill the own worker the first time."""
    number, folder = task
    mark = Path(folder) / f"{number}"
    if number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def die(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def overlap(folder):
    """How many of these run in this process at a time."""
    mine = Path(folder) / f"{os.getpid()}"
    alone = True
    try:
        mine.touch(exist_ok=False)
    except FileExistsError:
        alone = False
    time.sleep(0.05)
    mine.unlink(missing_ok=True)
    return alone


def working_folder(_):
    return os.getcwd()


def wait_for(mark):
    deadline = time.monotonic() + 30
    while not Path(mark).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(mark)
        time.sleep(0.01)


def wait_for_go(folder):
    """Say that it has begun (once each time), and wait for a file `go`."""
    with (Path(folder) / "started").open("a") as mark:
        mark.write("x")
    wait_for(Path(folder) / "go")
    return "done"


def need_gpu(_):
    raise MachineError(f"no GPU in process {os.getpid()}")


def visible_gpu(_):
    time.sleep(0.1)
    return os.environ["CUDA_VISIBLE_DEVICES"]


@dataclass(frozen=True)
class CountedLoad:
    """Loads the number of times that it was loaded."""

    folder: str

    def __call__(self):
        (Path(self.folder) / f"{time.monotonic_ns()}").touch()
        return len(list(Path(self.folder).iterdir()))


def use_load(load):
    return resident(load)


def fail_on_broken(task):
    """A full disk on the worker of that name."""
    from distributed import get_worker

    number, folder = task
    name = str(get_worker().name)
    with (Path(folder) / name).open("a") as mark:
        mark.write("x")
    if name == "broken":
        raise OSError(errno.ENOSPC, "No space left on device", f"/scratch/{number}")
    time.sleep(0.05)
    return name


def short(_):
    time.sleep(0.01)
    return os.getpid()


def touch_and_need_gpu(mark):
    with Path(mark).open("a") as file:
        file.write("x")
    raise MachineError("no GPU here")
