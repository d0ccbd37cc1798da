"""A Dask scheduler with workers of its own, and a progress that remembers what it was told."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from repository import WORKERS_PATH

from tomostream.cluster import Resources
from tomostream.progress import Progress


class Heard(Progress):
    def __init__(self):
        self.texts = []
        self.events = []

    def record(self, event, **facts):
        self.events.append((event, facts))

    def say(self, text):
        self.texts.append(text)

    warn = say


@dataclass(frozen=True)
class Scheduler:
    address: str
    file: Path


def start(folder, *arguments, name):
    environment = os.environ | {"PYTHONPATH": WORKERS_PATH, "OMP_NUM_THREADS": "1"}
    with open(folder / f"{name}.log", "w") as log:
        return subprocess.Popen([sys.executable, "-m", "dask", *arguments], cwd=folder, env=environment, stdout=log, stderr=log)


def stop(*processes):
    for process in processes:
        process.kill()
        process.wait()


def started_scheduler(folder):
    file = folder / "scheduler.json"
    process = start(
        folder, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file), name="scheduler"
    )
    while not (file.exists() and file.read_text().strip().endswith("}")):
        assert process.poll() is None, (folder / "scheduler.log").read_text()
        time.sleep(0.02)
    return process, Scheduler(json.loads(file.read_text())["address"], file)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """A scheduler with one worker process of three threads, in a folder of their own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    process, found = started_scheduler(folder)
    worker = start(folder, "worker", found.address, "--nthreads", "3", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1", name="worker")
    yield found
    stop(worker, process)


def slurm_settings(folder, **values):
    defaults = {"workers": 1, "threads": 1, "memory": 10**9, "walltime": "00:10:00", "interface": "lo", "log_folder": str(folder / "logs")}
    options = (f"--comment={folder}", *values.pop("options", ()))
    return Resources(kind="slurm", options=options, **defaults | values)
