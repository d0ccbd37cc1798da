"""Make the archive of this version, once, when it is released: PYTHONPATH=. python tests/support/make_archive.py [NAME...]

It writes `tests/data/archives/vMAJOR.MINOR`: a project that `tomostream run` made of the inputs of version 0.1, and a small model of each kind
with the logits that it gives for the tomogram of version 0.1 (`models/NAME/logits.npy`); with NAMEs, only these models.
`tests/test_archives.py` reads all of it for ever.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from density_files import density_file
from repository import TESTS

import tomostream as ts
from tomostream.strategies.loading import load_model
from tomostream.testing import make_project
from tomostream.version import VERSION

ARCHIVES = TESTS / "data" / "archives"
FIRST = ARCHIVES / "v0.1"
NOT_KEPT = ("report.html", ".run.lock", ".lock", "checkpoint.pt", "parts")
SMALL = {
    "network": {"channels": [4, 8], "level": 0},
    "train": {"steps": 4, "steps_per_epoch": 2, "crop": 16, "batch": 2, "precision": "float32"},
}
FEW = {"steps": 4, "steps_per_epoch": 2, "precision": "float32"}


def models(folder: Path) -> dict[str, dict[str, object]]:
    """The configuration of each model, by its name in the archive."""
    template = {"density": density_file(folder), "angle_step": 120, "tilt_range": [-90, 90]}
    return {
        "alone": {"objective": {"name": "nnpu"}, "matched_filter": {"weight": 0}},
        "average": {"objective": {"name": "average"}},
        "deepetpicker": {"objective": {"name": "deepetpicker"}, "network": {"channels": [3, 4]}, "train": FEW | {"crop": 32, "batch": 1}},
        "few_shot": {"objective": {"name": "few_shot"}, "network": {}, "train": FEW},
        "nnpu": {"objective": {"name": "nnpu"}},
        "slices2d": {"objective": {"name": "slices2d"}, "network": {"channels": [3, 4]}},
        "species": {"objective": {"name": "average"}, "species": 2},
        "sphere": {"objective": {"name": "sphere"}},
        "template": {"objective": {"name": "template"}, "template": template},
    }


def command(*arguments: str, here: Path) -> None:
    """Run a command of the program."""
    subprocess.run([sys.executable, "-m", "tomostream", *arguments], cwd=here, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def keep(made: Path, where: Path) -> None:
    """Copy what belongs into the archive."""
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(made, where, ignore=shutil.ignore_patterns(*NOT_KEPT))


def main(names: list[str]) -> None:
    """Make it, or only the models of these names."""
    archive = ARCHIVES / f"v{'.'.join(VERSION.split('.')[:2])}"
    if archive == FIRST:
        raise SystemExit("the archive of version 0.1 is never made again")
    volume = np.asarray(ts.open(FIRST / "tomograms" / "tiny.ome.zarr").array)
    with tempfile.TemporaryDirectory() as work:
        project = Path(work) / "inputs"
        if not names:
            shutil.copytree(FIRST / "project", project, ignore=shutil.ignore_patterns("project"))
            command("run", "run.yaml", here=project)
            keep(project, archive / "project")
        known = models(Path(work) / "densities")
        for name, values in ((name, known[name]) for name in names or known):
            folder = Path(work) / name
            command("train", str(make_project(folder, **(SMALL | values))), "-o", "model", here=folder)
            for file in ("metrics.csv", "resolved.yaml", "training.json"):
                (folder / "model" / file).unlink()
            keep(folder / "model", archive / "models" / name)
            logits = ts.predict(volume, load_model(archive / "models" / name), logits=True, threads=1)
            np.save(archive / "models" / name / "logits.npy", logits)


if __name__ == "__main__":
    main(sys.argv[1:])
