"""How well does a strategy find several kinds of particles, from ten clicks each, in a complete run?

    python -m bench.pretraining.kinds --work FOLDER --strategies few_shot,nnpu,average --tasks VPP-fas,DEF-ribosome

Train on the clicks of tomogram 01 (T1), and pick in 02 (T2) at the true count; the tasks are those of `bench.pretraining.transfer`.
Tomograms 03, 04 and T3 are not used, because nothing may be chosen by them.

Ferritin has one tomogram and an incomplete list instead of truth: its figure is no F1, but its model serves `bench.pretraining.weights`.
"""

import argparse
import json
import os
import time
from pathlib import Path

from bench.pretraining.transfer import Task, clicks_of, read_points, tasks
from tomostream.config import configuration_from
from tomostream.pipeline.execution import run_project
from tomostream.progress import Progress

_HEAD = "tomogram,species,x_voxel,y_voxel,z_voxel"


def run(task: Task, strategy: str, root: Path, folder: Path) -> None:
    """Run one task, and print its F1 in the clicked and in the other tomogram."""
    folder.mkdir(parents=True, exist_ok=True)
    names = (task.clicked, *task.test)
    rows = [f"{task.clicked},{task.species},{x:.3f},{y:.3f},{z:.3f}" for z, y, x in clicks_of(task, root)]
    (folder / "clicks.csv").write_text("\n".join([_HEAD, *rows]) + "\n")
    rows = [
        f"{name},{task.species},{x:.3f},{y:.3f},{z:.3f}"
        for name in names
        for z, y, x in read_points(
            root / task.folder / ("labels.csv" if task.name == "ferritin" else "truth.csv"), tomogram=name, species=task.species
        )
    ]
    (folder / "truth.csv").write_text("\n".join([_HEAD, *rows]) + "\n")
    content = {
        "project": str(folder / "project"),
        "tomograms": [str(root / task.folder / f"{name}.mrc") for name in names],
        "species": [{"name": task.species, "radius": f"{task.radius:g}vox"}],
        "labels": {"train": [str(folder / "clicks.csv")]},
        "objective": {"name": strategy},
        "pick": {"count": "truth"},
        "truth": str(folder / "truth.csv"),
        "tolerance": f"{task.tolerance:g}vox",
    }
    start = time.process_time()
    run_project(configuration_from(content, "the benchmark"), stages=[], overwrite=False, progress=Progress())
    spent = time.process_time() - start
    found = {name: round(one["f1"], 3) for name, one in json.loads((folder / "project/evaluation.json").read_text())["tomograms"].items()}
    summary = json.loads((folder / "project/model/model.json").read_text())["summary"]
    print(
        f"{task.name} {strategy}: {found}, {spent:.0f} s of one processor; {summary.get('chosen_ways', '')} {summary.get('evidence', '')}",
        flush=True,
    )


def main() -> None:
    """Read the command line and run all."""
    parser = argparse.ArgumentParser(prog="python -m bench.pretraining.kinds", description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--strategies", default="few_shot,nnpu,average")
    parser.add_argument("--tasks", default="DEF-ribosome,VPP-ribosome,DEF-fas,VPP-fas,temsim-ribosome70s")
    given = parser.parse_args()
    root = Path(os.environ["TOMOSTREAM_DATA"])
    for task in tasks():
        if task.name in given.tasks.split(","):
            for strategy in given.strategies.split(","):
                run(task, strategy, root, given.work / f"{task.name}_{strategy}")


if __name__ == "__main__":
    main()
