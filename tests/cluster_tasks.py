"""Tasks for the tests of the cluster; workers import this module."""

import os
import signal
import time
from pathlib import Path

from tomostream.errors import InputError


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
