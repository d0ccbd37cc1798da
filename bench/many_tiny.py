"""What does a tomogram cost beside its computation?  A batch of tiny ones: convert, stats, predict and pick by `run`, with a model given.

    python bench/many_tiny.py [--tomograms 200] [--edge 64] [--ways none local] [--folder DIR] [--profile]

1. Tomograms of noise, as MRC files; a network that was never trained.
2. The *computation* alone, on plain arrays in this process, without files: statistics by numpy, `ts.predict`, `ts.pick`.
3. `tomostream run` on half of them and on all, each in a process of its own: seconds a tomogram and stage, from the journal.
   The difference of the two sizes leaves out what is paid once (imports, workers); if it grows with the number, something is quadratic.

`--profile` prints what takes the time of `run` on all, in this process.
"""

from __future__ import annotations

import argparse
import cProfile
import datetime
import json
import os
import pstats
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
from tomostream.learn.model_folder import ModelSettings, save_model
from tomostream.learn.resunet import ResidualUNet

STAGES = ("convert", "stats", "predict", "pick")
SPACING = 10.0


def prepare(folder: Path, tomograms: int, edge: int) -> None:
    """Write tomograms and model."""
    rng = np.random.default_rng(0)
    for number in range(tomograms):
        with warnings.catch_warnings(), mrcfile.new(folder / f"t{number:04d}.mrc") as file:
            warnings.simplefilter("ignore")
            file.set_data(rng.normal(size=(edge,) * 3).astype(np.float32))
            file.set_volume()
            file.voxel_size = SPACING
    settings = ModelSettings(
        channels=(4, 8), species=("ribosome",), radius_ang=(40.0,), level=0, spacing=SPACING, clip_sigma=3.0, label_shape="sphere",
        objective={"name": "nnpu"}, precision="float32", trained_on=(), version="0",
    )  # fmt: skip
    save_model(folder / "model", ResidualUNet((4, 8), 1, seed=0), settings, {})


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
    """Seconds of a tomogram's computation alone, by stage."""
    volume = np.random.default_rng(1).normal(size=(edge,) * 3).astype(np.float32)
    found: dict[str, float] = {}
    repeats = 5
    model = ts.load_model(folder / "model")

    def measure() -> float:
        values = volume.astype(np.float64)
        clipped = np.clip((values - values.mean()) / values.std(), -3, 3)
        return float(clipped.mean() + clipped.std())

    for stage, work in {
        "stats": measure,
        "predict": lambda: ts.predict(volume, model, threads=1),
        "pick": lambda: ts.pick(volume, radius=4.0, count=20),
    }.items():
        work()
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        found[stage] = (time.perf_counter() - started) / repeats
    return found


def seconds_by_stage(project: Path) -> dict[str, float]:
    """From the journal: from a stage's begin to the next one's."""
    events = [json.loads(line) for line in (project / "log.jsonl").read_text().splitlines()]
    marks = [(event.get("stage", ""), event["time"]) for event in events if event["event"] in ("stage", "end")]
    times = [datetime.datetime.fromisoformat(at).timestamp() for _, at in marks]
    return {stage: after - before for (stage, _), before, after in zip(marks, times, times[1:], strict=False)}


def run(path: Path) -> float:
    command = [sys.executable, "-m", "tomostream", "run", str(path), *(part for stage in STAGES for part in ("--stage", stage))]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return time.perf_counter() - started


def profile(path: Path) -> None:
    """Of a run in this process."""
    from tomostream.config import load_configuration
    from tomostream.progress import Progress
    from tomostream.stages.running import run_project

    with cProfile.Profile() as watched:
        run_project(load_configuration(path), stages=list(STAGES), overwrite=False, progress=Progress())
    pstats.Stats(watched).sort_stats("cumulative").print_stats(90)


def main() -> None:
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
    alone = computing(folder, given.edge)
    print("| where | tomograms | s | " + " | ".join(f"{stage}, ms each" for stage in STAGES) + " | all, ms each |\n" + "|---" * 8 + "|")
    print(
        "| computation alone | | | | "
        + " | ".join(f"{1000 * alone[stage]:.0f}" for stage in STAGES[1:])
        + f" | {1000 * sum(alone.values()):.0f} |"
    )
    for way in given.ways:
        rows = []
        for count in (given.tomograms // 2, given.tomograms):
            name = f"{way}{count}"
            seconds = run(configure(folder, name, count, way))
            stages = seconds_by_stage(folder / name)
            rows.append(stages)
            each = " | ".join(f"{1000 * stages[stage] / count:.0f}" for stage in STAGES)
            print(f"| {way} | {count} | {seconds:.1f} | {each} | {1000 * seconds / count:.0f} |", flush=True)
        more = given.tomograms - given.tomograms // 2
        each = [1000 * (rows[1][stage] - rows[0][stage]) / more for stage in STAGES]
        print(f"| {way} | each one more | | " + " | ".join(f"{ms:.0f}" for ms in each) + f" | {sum(each):.0f} |", flush=True)


if __name__ == "__main__":
    main()
