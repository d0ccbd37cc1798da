"""Does the memory of scheduler and client stay flat for any number of shards, and how many tasks a second can they handle?

    python bench/scheduler_load.py [--tasks 1000 10000 100000] [--workers 2] [--quick]

The tasks have the size of predict's but compute nothing.  For each number of tasks, start a new scheduler, workers and client, each in a
process of its own.  Print the peak resident memory of scheduler and client, their growth from the first 500 tasks to the last, and the
tasks per second, sent singly and in batches (as predict sends them).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SMALL = 500


def virtual_shard(task: tuple[int, bytes]) -> list[str]:
    """Return what a task of predict returns without warnings: an empty list."""
    del task
    return []


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise RuntimeError(f"no resident memory of process {pid}")


def client(address: str, scheduler: int, tasks: int, is_grouped: bool) -> None:
    """Send the tasks and print the figures; run in a process of its own."""
    from bench.scheduler_load import virtual_shard as function  # workers can't import it from __main__
    from tomostream.cluster import Resources, open_pool
    from tomostream.progress import Progress

    samples: list[tuple[float, float]] = []
    with open_pool(Resources(scheduler=address, threads=1), Progress()) as pool:
        started = time.perf_counter()
        payload = bytes(2000)  # the size of a pickled task
        for done, _ in enumerate(pool.run(function, ((n, payload) for n in range(tasks)), is_grouped=is_grouped), 1):
            if done == SMALL or done % 1000 == 0:
                samples.append((resident_mb(scheduler), resident_mb(os.getpid())))
        seconds = time.perf_counter() - started
    print(json.dumps({"samples": samples, "seconds": seconds}))


def measure(tasks: int, workers: int, is_grouped: bool) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    environment["DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED"] = "False"  # the profile grows too, and would hide what tasks leave behind
    dask = [sys.executable, "-m", "dask"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scheduler.json"
        common = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard"]
        quiet = {"env": environment, "cwd": folder, "stderr": subprocess.DEVNULL}
        scheduler = subprocess.Popen([*dask, "scheduler", "--port", "0", *common], **quiet)
        processes = [scheduler] + [
            subprocess.Popen([*dask, "worker", "--nthreads", "1", "--no-nanny", *common], **quiet) for _ in range(workers)
        ]
        try:
            while not (file.exists() and file.read_text().strip().endswith("}")):
                time.sleep(0.05)
            address = json.loads(file.read_text())["address"]
            call = [sys.executable, __file__, "--client", address, str(scheduler.pid), str(tasks), str(int(is_grouped))]
            told = json.loads(subprocess.run(call, check=True, capture_output=True, text=True, env=environment).stdout.splitlines()[-1])
        finally:
            for process in processes:
                process.kill()
                process.wait()
    samples = told["samples"]
    return {
        "scheduler": max(one[0] for one in samples),
        "client": max(one[1] for one in samples),
        "scheduler growth": samples[-1][0] - samples[0][0],
        "client growth": samples[-1][1] - samples[0][1],
        "tasks/s": tasks / told["seconds"],
    }


def main() -> None:
    if sys.argv[1:2] == ["--client"]:
        address, scheduler, tasks, is_grouped = sys.argv[2:]
        client(address, int(scheduler), int(tasks), bool(int(is_grouped)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="1000 tasks only")
    given = parser.parse_args()
    print("| tasks | sent | scheduler, peak | growth | client, peak | growth | tasks/s |\n|---|---|---|---|---|---|---|")
    for is_grouped in (True, False):
        for tasks in [1_000] if given.quick else given.tasks:
            found = measure(tasks, given.workers, is_grouped)
            print(
                f"| {tasks} | {'in batches' if is_grouped else 'singly'} | {found['scheduler']:.0f} MB | {found['scheduler growth']:+.1f} MB "
                f"| {found['client']:.0f} MB | {found['client growth']:+.1f} MB | {found['tasks/s']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
