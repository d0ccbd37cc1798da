"""How well does a strategy find several kinds of particles, from ten clicks each, in a complete run?

    python -m bench.pretraining.kinds --work FOLDER --strategies few_shot,nnpu,average --tasks VPP-fas,DEF-ribosome
    python -m bench.pretraining.kinds --work FOLDER --strategies nnpu --tasks VPP-ribosome+VPP-fas [--together]
    python -m bench.pretraining.kinds --work FOLDER --strategies nnpu --tasks VPP-ribosome60s --pasted 0      # without pasted copies
    python -m bench.pretraining.kinds --work FOLDER --strategies nnpu --tasks VPP-ribosome --look-alikes 0    # without telling look-alikes
    python -m bench.pretraining.kinds --work FOLDER --strategies nnpu --tasks VPP-ribosome60s --expected 0.7  # of the true number

Train on the clicks of tomogram 01 (T1), and pick in 02 (T2) at the true count; the tasks are those of `bench.pretraining.transfer`.
Tasks joined by + are the species of one configuration.
Tomograms 03, 04 and T3 are not used, because nothing may be chosen by them.

Ferritin has one tomogram and an incomplete list instead of truth: its figure is no F1, but its model serves `bench.pretraining.weights`.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tomostream as ts
from bench.pretraining.transfer import Task, clicks_of, f1_of, read_points, tasks
from tomostream.config import configuration_from
from tomostream.pipeline.execution import run_project
from tomostream.progress import Progress


@dataclass(frozen=True)
class Options:
    """What is not the product's default."""

    train: dict[str, float | bool]
    look_alikes: float | None = None  # `matched_filter.look_alikes`
    expected: float | None = None  # times the true number in the clicked tomogram; None: the user says nothing

    @property
    def name(self) -> str:
        """Part of a folder's name."""
        given = {**self.train, "look_alikes": self.look_alikes, "expected": self.expected}
        return "".join(f"_{key}{value}" for key, value in given.items() if value is not None)


_HEAD = "tomogram,species,x_voxel,y_voxel,z_voxel"


def run(several: list[Task], strategy: str, root: Path, folder: Path, *, options: Options) -> None:
    """Run one task, or several in one configuration, and print the F1 of each in the clicked and in the other tomogram."""
    folder.mkdir(parents=True, exist_ok=True)
    first = several[0]
    names = (first.clicked, *first.test)
    truth = {
        (task.species, name): read_points(
            root / task.folder / ("labels.csv" if task.name == "ferritin" else "truth.csv"), tomogram=name, species=task.species
        )
        for task in several
        for name in names
    }
    rows = [f"{task.clicked},{task.species},{x:.3f},{y:.3f},{z:.3f}" for task in several for z, y, x in clicks_of(task, root)]
    (folder / "clicks.csv").write_text("\n".join([_HEAD, *rows]) + "\n")
    rows = [f"{name},{species},{x:.3f},{y:.3f},{z:.3f}" for (species, name), points in truth.items() for z, y, x in points]
    (folder / "truth.csv").write_text("\n".join([_HEAD, *rows]) + "\n")
    content = {
        "project": str(folder / "project"),
        "tomograms": [str(root / first.folder / f"{name}.mrc") for name in names],
        "species": [{"name": task.species, "radius": f"{task.radius:g}vox", **_number(task, truth, options.expected)} for task in several],
        "labels": {"train": [str(folder / "clicks.csv")]},
        "objective": {"name": strategy},
        "pick": {"count": "truth"},
        "truth": str(folder / "truth.csv"),
        "train": options.train,
    } | ({} if options.look_alikes is None else {"matched_filter": {"look_alikes": options.look_alikes}})
    start = time.process_time()
    run_project(configuration_from(content, "the benchmark"), stages=[], overwrite=False, progress=Progress())
    spent = time.process_time() - start
    summary = json.loads((folder / "project/model/model.json").read_text())["summary"]
    print(f"{'+'.join(task.name for task in several)} {strategy}: {spent:.0f} s of one processor")
    for number, task in enumerate(several):
        found = {name: round(_f1(folder / "project", name, task, truth[task.species, name]), 3) for name in names}
        chosen = [(summary.get(key) or [""] * len(several))[number] for key in ("chosen_ways", "evidence")]
        print(f"    {task.name}: {found}; {chosen[0]} {chosen[1]}", flush=True)


def _number(task: Task, truth: dict[tuple[str, str], np.ndarray], factor: float | None) -> dict[str, int]:
    return {} if factor is None else {"expected": max(1, round(factor * len(truth[task.species, task.clicked])))}


def _f1(project: Path, name: str, task: Task, truth: np.ndarray) -> float:
    picks = ts.read_particles(project / "picks" / f"{name}.csv")
    spacing = ts.open(project / "tomograms" / f"{name}.ome.zarr").spacing
    return f1_of(picks.of(species=task.species).in_unit("voxel", spacing).position_zyx, truth, task.tolerance)


def main() -> None:
    """Read the command line and run all."""
    parser = argparse.ArgumentParser(prog="python -m bench.pretraining.kinds", description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--strategies", default="few_shot,nnpu,average")
    parser.add_argument("--tasks", default="DEF-ribosome,VPP-ribosome,DEF-fas,VPP-fas,temsim-ribosome70s")
    parser.add_argument("--together", action="store_true", help="one model for all species of a configuration")
    parser.add_argument("--pasted", type=float, help="`train.pasted` (default: the product's)")
    parser.add_argument("--look-alikes", type=float, help="`matched_filter.look_alikes` (default: the product's)")
    parser.add_argument(
        "--expected", type=float, metavar="FACTOR", help="give the expected number: so many times the true one (default: none is given)"
    )
    given = parser.parse_args()
    root = Path(os.environ["TOMOSTREAM_DATA"])
    train = ({"together": True} if given.together else {}) | ({} if given.pasted is None else {"pasted": given.pasted})
    options = Options(train, given.look_alikes, given.expected)
    known = {task.name: task for task in tasks()}
    for names in given.tasks.split(","):
        several = [known[name] for name in names.split("+")]
        for strategy in given.strategies.split(","):
            run(several, strategy, root, given.work / f"{names}_{strategy}{options.name}", options=options)


if __name__ == "__main__":
    main()
