"""What is the overhead of a tomogram?  Convert, stats, predict and pick of many tiny tomograms by `run`, with a given model.

    python bench/many_tiny.py [--tomograms 200] [--edge 64] [--ways none local] [--folder DIR] [--profile]

1. Make tomograms of noise as MRC files, and an untrained network.
2. Time the *computation* alone, on plain arrays in this process, without files: statistics by numpy, `ts.predict`, `ts.pick`.
3. Time `tomostream run` on half of the tomograms and on all, each in a process of its own.  The difference of the two leaves out what is
   done once (imports, starting workers).  If anything were quadratic, the difference would be larger than the mean.

All times are processor time, which hardly depends on what else the machine does: by stage in the client, and of all workers together.
`--profile` runs all tomograms in this process and prints where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import json
import os
import pstats
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import yaml

import tomostream as ts
from tomostream.config import load_configuration
from tomostream.pipeline.execution import run_project
from tomostream.progress import Progress
from tomostream.strategies.unet.model import UNetSettings, save_model
from tomostream.strategies.unet.network import ResidualUNet

STAGES = ("convert", "stats", "predict", "pick")
SPACING = 10.0


def prepare(folder: Path, tomograms: int, edge: int) -> None:
    """Write the tomograms and the model."""
    rng = np.random.default_rng(0)
    for number in range(tomograms):
        with warnings.catch_warnings(), mrcfile.new(folder / f"t{number:04d}.mrc") as file:
            warnings.simplefilter("ignore")
            file.set_data(rng.normal(size=(edge,) * 3).astype(np.float32))
            file.set_volume()
            file.voxel_size = SPACING
    settings = UNetSettings(
        channels=(4, 8), species=("ribosome",), radius_ang=(40.0,), level=0, spacing=SPACING, clip_sigma=3.0, label_shape="sphere",
        objective={"name": "nnpu"}, precision="float32", trained_on=(), version="0", batch_statistics="tomogram",
    )  # fmt: skip
    save_model(folder / "model", ResidualUNet((4, 8), 1, seed=0), settings)


def configure(folder: Path, name: str, tomograms: int, way: str) -> Path:
    """Write the configuration of a project on the first tomograms."""
    project = folder / name
    project.mkdir()
    (project / "model").symlink_to(folder / "model")
    values = {
        "project": str(project),
        "tomograms": [str(folder / f"t{number:04d}.mrc") for number in range(tomograms)],
        "species": [{"name": "ribosome", "radius": "4vox"}],
        "labels": {"train": [str(folder / "clicks.csv")]},
        "network": {"channels": [4, 8]},
        "pick": {"count": 20},
        "cluster": {"threads": 1} | ({} if way == "none" else {"kind": way, "workers": 2}),
    }
    (folder / "clicks.csv").write_text("tomogram,x_voxel,y_voxel,z_voxel\nt0000,20,20,20\n")
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def computing(folder: Path, edge: int) -> dict[str, float]:
    """Return the seconds of a tomogram's computation alone, by stage."""
    volume = np.random.default_rng(1).normal(size=(edge,) * 3).astype(np.float32)
    model = ts.load_model(folder / "model")

    def measure() -> float:
        values = volume.astype(np.float64)
        clipped = np.clip((values - values.mean()) / values.std(), -3, 3)
        return float(clipped.mean() + clipped.std())

    found = {"convert": 0.0}
    repeats = 5
    for stage, work in {
        "stats": measure,
        "predict": lambda: ts.predict(volume, model, threads=1),
        "pick": lambda: ts.pick(volume, radius=4.0, count=20),
    }.items():
        work()
        started = time.process_time()
        for _ in range(repeats):
            work()
        found[stage] = (time.process_time() - started) / repeats
    return found


class Stopwatch(Progress):
    """Record the processor time at which stages begin and end."""

    def __init__(self) -> None:
        self.marks: list[tuple[str, float]] = []

    def record(self, event: str, **facts: object) -> None:
        """See `Progress`."""
        if event in ("stage", "end"):
            self.marks.append((str(facts.get("stage", "")), time.process_time()))


def child(path: Path) -> None:
    """Run the project, in a process of its own; print the processor seconds of the stages, and of the workers."""
    watch = Stopwatch()
    run_project(load_configuration(path), stages=list(STAGES), overwrite=False, progress=watch)
    found = {stage: after - before for (stage, before), (_, after) in itertools.pairwise(watch.marks)}
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps(found | {"workers": workers.ru_utime + workers.ru_stime}))


def run(path: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(path)],
        check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def profile(path: Path) -> None:
    """Profile a run in this process."""
    with cProfile.Profile() as watched:
        run_project(load_configuration(path), stages=list(STAGES), overwrite=False, progress=Progress())
    pstats.Stats(watched).sort_stats("cumulative").print_stats(90)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tomograms", type=int, default=200)
    parser.add_argument("--edge", type=int, default=64)
    parser.add_argument("--ways", nargs="+", choices=["none", "local"], default=["none", "local"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    folder = (given.folder or Path(tempfile.mkdtemp(prefix="many-tiny-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder, given.tomograms, given.edge)
    if given.profile:
        profile(configure(folder, "profiled", given.tomograms, "none"))
        return
    parts = (*STAGES, "workers")
    print("| processor ms a tomogram | tomograms | " + " | ".join(parts) + " | all |\n" + "|---" * 8 + "|")

    def row(what: str, tomograms: str, seconds: dict[str, float], divisor: int) -> None:
        each = [1000 * seconds.get(part, 0.0) / divisor for part in parts]
        print(f"| {what} | {tomograms} | " + " | ".join(f"{ms:.0f}" for ms in each) + f" | {sum(each):.0f} |", flush=True)

    row("computation alone", "", computing(folder, given.edge), 1)
    half = given.tomograms // 2
    for way in given.ways:
        fewer, all_of_them = (run(configure(folder, f"{way}{count}", count, way)) for count in (half, given.tomograms))
        row(way, str(half), fewer, half)
        row(way, str(given.tomograms), all_of_them, given.tomograms)
        row(way, "one more", {part: all_of_them[part] - fewer[part] for part in parts}, given.tomograms - half)


if __name__ == "__main__":
    main()
