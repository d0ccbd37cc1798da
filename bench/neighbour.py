"""What does a neighbour cost?  Each stage alone, and with one core taken by another process, in turn (quiet, busy, quiet, busy).

1. A small volume and an untrained network are made; `train`, `convert`, `predict` and `pick` run as a user would run them, each in a process of its own.
2. The neighbour is a process that computes without a pause, on any core.  It runs during every second round.
3. A stage's figure is the median over the rounds of the time beside the neighbour / the time alone (target: 2.2 at most).  The processor's time of both is
   told too: where the machine has other work, the wall's says little.

    python -m bench.neighbour --quick | --full [-o FILE.json]
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from bench.processes import make
from bench.timing import Finding, Size, run_script

MOST = 2.2
STEPS = {True: 40, False: 2}


@contextmanager
def neighbour(is_there: bool) -> Iterator[None]:
    """Keep one core busy meanwhile."""
    if not is_there:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: sum(range(10**6))"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def clicked(folder: Path, edge: int, steps: int) -> Path:
    """Write clicks at made-up places, and a configuration to train on them."""
    rows = [f"noise,{edge // 8 * (1 + i % 6)},{edge // 8 * (1 + i // 6)},16" for i in range(12)]
    (folder / "clicks.csv").write_text("\n".join(["tomogram,x_voxel,y_voxel,z_voxel", *rows]) + "\n")
    configuration = {
        "project": str(folder / "project"), "tomograms": [str(folder / "noise.ome.zarr")],
        "species": [{"name": "particle", "radius": "4vox", "expected": 12}], "objective": {"name": "nnpu"},
        "network": {"channels": [8, 16], "level": 0}, "train": {"steps": steps, "crop": 32, "batch": 2}, "labels": {"train": [str(folder / "clicks.csv")], "check": "warn"},
    }  # fmt: skip
    (folder / "train.yaml").write_text(yaml.safe_dump(configuration))
    return folder / "train.yaml"


def commands(folder: Path, configuration: Path) -> dict[str, list[str]]:
    store, scores = str(folder / "noise.ome.zarr"), str(folder / "scores" / "noise.ome.zarr")
    return {
        "convert": ["convert", str(folder / "noise.mrc"), "-o", str(folder / "out")],
        "train": ["train", str(configuration), "-o", str(folder / "trained"), "--overwrite"],
        "predict": ["predict", store, "--model", str(folder / "model"), "-o", str(folder / "scores"), "--device", "cpu", "--overwrite"],
        "pick": ["pick", scores, "--radius", "6vox", "--count", "50", "-o", str(folder / "picks")],
    }


def run(command: list[str]) -> tuple[float, float]:
    """Return the seconds by the wall and of the processor, children included."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "tomostream", *command], check=False, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(size: Size) -> list[Finding]:
    folder, edge = size.folder, 512 if size.is_full else 64
    make(folder, edge, (8, 16))
    stages = commands(folder, clicked(folder, edge, STEPS[size.is_full]))
    walls: dict[str, list[float]] = {f"{name}, {how}": [] for name in stages for how in ("alone", "beside")}
    processor: dict[str, list[float]] = {name: [] for name in walls}
    for number in range(size.rounds):
        for is_there, how in ((False, "alone"), (True, "beside")):
            with neighbour(is_there):
                for name, command in stages.items():
                    for old in ("out", "trained", "picks"):
                        shutil.rmtree(folder / old, ignore_errors=True)
                    wall, own = run(command)
                    walls[f"{name}, {how}"].append(wall)
                    processor[f"{name}, {how}"].append(own)
                    print(f"  round {number + 1}: {name} {how}: {wall:.1f} s, of the processor {own:.1f} s", file=sys.stderr, flush=True)
    found: list[Finding] = []
    for what, times, target in (("wall", walls, MOST), ("processor", processor, None)):
        for name in stages:
            alone, beside = times[f"{name}, alone"], times[f"{name}, beside"]
            ratios = [two / one for one, two in zip(alone, beside, strict=True)]
            found.append(
                Finding(
                    "neighbour",
                    f"`{name}`, time of the {what} with one of {len(os.sched_getaffinity(0))} cores taken / alone",
                    statistics.median(ratios),
                    target,
                    is_least=False,
                    low=min(ratios),
                    high=max(ratios),
                    times={"alone": alone, "beside": beside},
                )
            )
    return found


if __name__ == "__main__":
    run_script(measure, __doc__)
