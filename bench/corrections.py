"""How much do answers to suggested places help, kept or rejected, against as many further clicks?  The truth simulates the person.

    python -m bench.corrections --work FOLDER                                       # the curve of one data set; resumes after a stop
    python -m bench.corrections --work FOLDER --tasks VPP-ribosome60s --answers 20
    python -m bench.corrections --work FOLDER --tables                              # the results so far

1. Ten clicks on tomogram 01 (the tasks are those of `bench.pretraining.transfer`): train, and pick in 01 and 02.
2. `suggest` places in 01.  A place within half the tolerance of a particle is kept, one farther than the tolerance is rejected, one between is
   skipped, as a person would who sees a particle beside the centre.
3. Train again with the first N answers: from the start (`answers`), going on from the first model (`continued`), and from the start with the kept
   ones alone (`kept`).  And with N further particles of 01 that are clicked at random: from the start (`random`), and going on (`random_continued`).

F1 is at the true count.  Tomograms 03 and 04 are not used, because nothing may be chosen by them.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from bench.pretraining.transfer import Task, clicks_of, read_points, tasks
from tomostream.config import configuration_from
from tomostream.pipeline.execution import run_project
from tomostream.progress import Progress
from tomostream.stages.picks.suggestions import SuggestSettings, suggest_from_maps
from tomostream.units import Length

_HEAD = "tomogram,species,x_voxel,y_voxel,z_voxel,label"
WAYS = ("answers", "continued", "kept", "random", "random_continued")


@dataclass(frozen=True, slots=True)
class Answers:
    """What the simulated person said of places: voxels z y x (n, 3), and for each 1 (kept), 0 (rejected) or -1 (skipped)."""

    places: np.ndarray
    said: np.ndarray

    def labelled(self, count: int, label: int) -> np.ndarray:
        """Return the places among the first `count` that got this label."""
        found: np.ndarray = self.places[:count][self.said[:count] == label]
        return found


def answered(places: np.ndarray, truth: np.ndarray, tolerance: float) -> Answers:
    """Answer by the truth."""
    distance = cKDTree(truth).query(places)[0]
    return Answers(places, np.where(distance <= tolerance / 2, 1, np.where(distance > tolerance, 0, -1)))


def further(task: Task, truth: np.ndarray, clicks: np.ndarray, count: int) -> np.ndarray:
    """Return `count` particles that are not clicked yet, off by half a voxel to two."""
    rng = np.random.default_rng(1)
    free = truth[cKDTree(clicks).query(truth)[0] > task.tolerance / 2]
    chosen = free[rng.permutation(len(free))[:count]]
    direction = rng.normal(size=chosen.shape)
    moved: np.ndarray = chosen + direction / np.linalg.norm(direction, axis=1, keepdims=True) * rng.uniform(0.5, 2.0, (len(chosen), 1))
    return moved


class Bench:
    """One task in one folder: each training has a project of its own, and is made once."""

    def __init__(self, task: Task, folder: Path, root: Path, objective: dict[str, Any]) -> None:
        self.task, self.folder, self.objective = task, folder, objective
        self.names = (task.clicked, *task.test)
        self.sources = {name: root / task.folder / f"{name}.mrc" for name in self.names}
        self.truth = {name: read_points(root / task.folder / "truth.csv", tomogram=name, species=task.species) for name in self.names}
        self.clicks = clicks_of(task, root)
        folder.mkdir(parents=True, exist_ok=True)
        rows = [row for name in self.names for row in self._rows(name, self.truth[name], 1)]
        self._write(folder / "truth.csv", rows)

    def _rows(self, name: str, points: np.ndarray, label: int) -> list[str]:
        return [f"{name},{self.task.species},{x:.3f},{y:.3f},{z:.3f},{label}" for z, y, x in points]

    @staticmethod
    def _write(path: Path, rows: Sequence[str]) -> None:
        path.write_text("\n".join([_HEAD, *rows]) + "\n")

    def train(self, name: str, particles: np.ndarray, rejected: np.ndarray, *, start: Path | None = None) -> None:
        """Train, predict and pick, unless the result is there."""
        result = self.folder / f"{name}.json"
        if result.exists():
            return
        project, table = self.folder / name, self.folder / f"{name}.csv"
        rows = [*self._rows(self.task.clicked, particles, 1), *self._rows(self.task.clicked, rejected, 0)]
        self._write(table, rows)
        stores = {one: self.folder / "clicks/tomograms" / f"{one}.ome.zarr" for one in self.names}
        content = {
            "project": str(project),
            "tomograms": [str(stores[one] if stores[one].exists() else self.sources[one]) for one in self.names],
            "species": [{"name": self.task.species, "radius": f"{self.task.radius:g}vox"}],
            "labels": {"train": [str(table)]},
            "objective": self.objective,
            "pick": {"count": "truth"},
            "truth": str(self.folder / "truth.csv"),
            "tolerance": f"{self.task.tolerance:g}vox",
        } | ({} if start is None else {"train": {"start": str(start)}})
        configuration = configuration_from(content, "the benchmark")
        run_project(configuration, stages=["convert", "stats"], overwrite=False, progress=Progress())
        wall, spent = time.monotonic(), time.process_time()
        run_project(configuration, stages=["train"], overwrite=False, progress=Progress())
        wall, spent = time.monotonic() - wall, time.process_time() - spent
        run_project(configuration, stages=["predict", "pick", "evaluate"], overwrite=False, progress=Progress())
        found = json.loads((project / "evaluation.json").read_text())["tomograms"]
        summary = json.loads((project / "model/model.json").read_text())["summary"]
        told = {
            "f1": {one: round(found[one]["f1"], 3) for one in self.names},
            "particles": len(particles),
            "rejected": len(rejected),
            "wall_s": round(wall),
            "cpu_s": round(spent),
            "joined": summary.get("chosen_ways"),
        }
        result.write_text(json.dumps(told))
        print(self.task.name, name, told, flush=True)

    def answers(self, count: int) -> Answers:
        """Suggest places in the clicked tomogram with the first model, and answer."""
        table = self.folder / f"places_{count}.csv"
        if not table.exists():
            numbers = json.loads((self.folder / "clicks/model/model.json").read_text())["summary"]["expected_numbers"]
            settings = SuggestSettings(
                radius=Length(self.task.radius, is_voxels=True),
                expected=numbers[0][0],
                points=count,
                smooth=None,
                species=self.task.species,
            )
            scores = self.folder / "clicks/scores" / f"{self.task.clicked}.ome.zarr"
            known = [str(self.folder / "clicks.csv")]
            suggest_from_maps([str(scores)], settings, known=known, output=table, memory=2 * 10**9, progress=Progress())
        places = read_points(table, tomogram=self.task.clicked, species=self.task.species)
        return answered(places, self.truth[self.task.clicked], self.task.tolerance)

    def run(self, counts: Sequence[int], ways: Sequence[str]) -> None:
        """Make all trainings that are missing."""
        none = np.empty((0, 3))
        self.train("clicks", self.clicks, none)
        answers = self.answers(max(counts))
        for count in counts:
            kept, rejected = (answers.labelled(count, label) for label in (1, 0))
            print(f"{self.task.name}: of {count} answers {len(kept)} kept, {len(rejected)} rejected", flush=True)
            both = np.concatenate([self.clicks, kept])
            random = np.concatenate([self.clicks, further(self.task, self.truth[self.task.clicked], self.clicks, count)])
            points = {"answers": (both, rejected), "continued": (both, rejected), "kept": (both, none)}
            for way in ways:
                start = self.folder / "clicks/model" if way.endswith("continued") else None
                self.train(f"{way}_{count}", *points.get(way, (random, none)), start=start)


def table(work: Path) -> str:
    """Return a Markdown table of all results."""
    lines = ["| task | training | particles, rejected | 01 | 02 | train, s |", "|---|---|---|---|---|---|"]
    for path in sorted(work.glob("*/*.json")):
        one = json.loads(path.read_text())
        f1 = " | ".join(f"{value:.3f}" for value in one["f1"].values())
        lines.append(f"| {path.parent.name} | {path.stem} | {one['particles']}, {one['rejected']} | {f1} | {one['wall_s']} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line and run all."""
    parser = argparse.ArgumentParser(prog="python -m bench.corrections", description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tasks", default="VPP-ribosome60s")
    parser.add_argument("--answers", default="10,20,40")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--objective", default="nnpu")
    parser.add_argument(
        "--rejected-weight", type=float, default=0.0, help="objective.rejected_weight; give another --work for another weight"
    )
    parser.add_argument("--tables", action="store_true")
    given = parser.parse_args()
    if not given.tables:
        root = Path(os.environ["TOMOSTREAM_DATA"])
        objective = {"name": given.objective, "rejected_weight": given.rejected_weight}
        for task in tasks():
            if task.name in given.tasks.split(","):
                counts = [int(text) for text in given.answers.split(",")]
                Bench(task, given.work / task.name, root, objective).run(counts, [way for way in given.ways.split(",") if way])
    print(table(given.work))


if __name__ == "__main__":
    main()
