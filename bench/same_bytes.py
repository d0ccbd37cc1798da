"""Do scores and picks have the same bytes wherever they are computed: in this process, in two, on a scheduler, and as SLURM jobs?

    python bench/same_bytes.py MRC... --clicks TABLE [--folder DIR] [--steps 60] [--without slurm]

1. Train a small model on the clicks; convert the tomograms.
2. Predict and pick them once each way, with the same commands; every process scores with one thread.
3. Compare every file of the results with those of `none`: prints a table, exits with 1 if any byte differs.

Needs SLURM (tests/slurm/start.sh starts one with a single node), whose network is the loopback here.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

WAYS = {
    "none": [],
    "local": ["--cluster", "local", "--workers", "2"],
    "scheduler": ["--scheduler", "scheduler.json"],
    "slurm": ["--cluster", "slurm", "--workers", "2", "--cluster-option", "walltime=01:00:00", "--cluster-option", "interface=lo"],
}


def tomostream(folder: Path, *arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tomostream", *arguments], cwd=folder, check=True, env=environment())
    return time.perf_counter() - started


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def train(folder: Path, files: list[str], clicks: str, count: int, radius: str, steps: int) -> None:
    configuration = {
        "project": "project",
        "tomograms": files,
        "species": [{"name": "ribosome", "radius": radius, "expected": count}],
        "labels": {"train": [clicks]},
        "network": {"channels": [4, 8]},
        "train": {"steps": steps, "steps_per_epoch": steps, "crop": 32, "precision": "float32"},
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(configuration))
    tomostream(folder, "run", "train.yaml", "--stage", "convert", "--stage", "train")


def digests(folder: Path) -> dict[str, str]:
    """Return the digests of all files, except those that name the folder itself."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "made-by" not in path.name)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def go(folder: Path, way: str, count: int, radius: str) -> dict[str, float]:
    where = [*WAYS[way], "--threads", "1", "--memory", "1GB"]
    stores = ["project/tomograms"]
    predicted = tomostream(folder, "predict", *stores, "--model", "project/model", "-o", f"{way}/scores", "--device", "cpu", *where)
    picked = tomostream(folder, "pick", f"{way}/scores", "--radius", radius, "--count", str(count), "-o", f"{way}/picks", *where)
    return {"predict": predicted, "pick": picked}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="MRC")
    parser.add_argument("--clicks", required=True, help="table of clicks in one of the tomograms")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--count", type=int, default=180, help="particles of a tomogram")
    parser.add_argument("--radius", default="135A")
    parser.add_argument("--without", action="append", default=[], choices=list(WAYS)[1:])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        train(
            folder, [os.path.abspath(file) for file in given.files], os.path.abspath(given.clicks), given.count, given.radius, given.steps
        )
        dask = [sys.executable, "-m", "dask"]
        address = ["--scheduler-file", "scheduler.json", "--host", "127.0.0.1", "--no-dashboard"]
        services = [subprocess.Popen([*dask, "scheduler", "--port", "0", *address], cwd=folder, stderr=subprocess.DEVNULL)]
        services += [
            subprocess.Popen([*dask, "worker", "--nthreads", "1", "--memory-limit", "0", *address], cwd=folder, stderr=subprocess.DEVNULL)
            for _ in range(2)
        ]
        try:
            seconds = {way: go(folder, way, given.count, given.radius) for way in WAYS if way not in given.without}
        finally:
            for service in services:
                service.terminate()
                service.wait()
        found = {way: digests(folder / way) for way in seconds}
    print("| where | predict | pick | files | bytes as with `none` |\n|---|---|---|---|---|")
    for way, times in seconds.items():
        same = "same" if found[way] == found["none"] else "DIFFERENT"
        print(f"| {way} | {times['predict']:.0f} s | {times['pick']:.0f} s | {len(found[way])} | {same} |")
    return 0 if all(one == found["none"] for one in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
