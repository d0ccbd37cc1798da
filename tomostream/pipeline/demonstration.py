"""`demo`: simulate a small data set with known truth, and run every stage on it.

1. Simulate four tomograms (two species, decoys, tilt series with CTF and noise, missing wedge) as MRC files in `DIR/simulated`.
2. Simulate clicks on a few particles of the first tomogram, for training, and of the second, for validation. They are off by a voxel
   or two, as a person's clicks are.
3. Write the configuration that a user would write, `DIR/demo.yaml`, run it, and evaluate the picks in the other two tomograms.

Training sees the clicks only; the truth is used for the evaluation alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml

from tomostream.config import load_configuration
from tomostream.errors import InputError
from tomostream.evaluation import Evaluation
from tomostream.formats.registry import Conversion, write_table
from tomostream.particles import Particles
from tomostream.pipeline.execution import run_project
from tomostream.progress import Progress
from tomostream.simulation.clicks import simulate_clicks
from tomostream.simulation.tomograms import SimulationSettings, simulate_tomogram, write_mrc
from tomostream.stages.shared.sidecar import is_made_by, record_made_by

TRAIN, VALIDATE, *TEST = ("demo_1", "demo_2", "demo_3", "demo_4")
SPECIES = "ribosome"  # the simulated one that is picked
CLICKS = 20  # of the main species, in each of the two clicked tomograms
JITTER_VOX = 1.0  # a click's distance from the true centre, standard deviation per axis
STEPS = 250


def run_demo(folder: Path, *, overwrite: bool, make_progress: Callable[[Path], Progress]) -> Evaluation:
    """Simulate the data in `folder`, run the project there, and return the evaluation of the two tomograms without clicks.

    Raises
    ------
    InputError
        If the folder can't be written, or holds files that are not a demo's.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "simulated").is_dir():
        raise InputError(f"{folder} is not empty and does not hold a demo; choose another folder: tomostream demo DIR")
    try:
        (folder / "simulated").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} can't be created: {error.strerror or error}") from None
    progress = make_progress(folder / "log.jsonl")
    truth = _simulate(folder, progress)
    configuration = load_configuration(_write_configuration(folder, truth))
    evaluation = run_project(configuration, stages=[], overwrite=overwrite, progress=progress)
    if evaluation is None:
        raise InputError(f"{folder}: the run ended without an evaluation")
    return evaluation


def _simulate(folder: Path, progress: Progress) -> Particles:
    """Write the tomograms, truth and clicks that are missing; return the truth."""
    tables: list[Particles] = []
    with progress.track("simulate", 4) as bar:
        for number, name in enumerate((TRAIN, VALIDATE, *TEST)):
            settings = SimulationSettings.demo(seed=number)
            path = folder / "simulated" / f"{name}.mrc"
            fingerprint = json.loads(json.dumps(asdict(settings)))
            particles = path.with_suffix(".csv")
            if not is_made_by(path, fingerprint) or not particles.exists():
                simulated = simulate_tomogram(settings, name)
                write_mrc(path, simulated)
                write_table(particles, simulated.truth, conversion=Conversion(spacing=settings.spacing))
                record_made_by(path, fingerprint)
            tables.append(_read(particles))
            bar.advance()
    truth = Particles.concatenate(tables)
    write_table(folder / "simulated" / "truth.csv", truth)
    spacing = SimulationSettings.demo(seed=0).spacing
    species = SPECIES
    for name, purpose in ((TRAIN, "train"), (VALIDATE, "validate")):
        there = truth.of(tomogram=name).in_unit("voxel", spacing)
        clicks = simulate_clicks(there, species=species, count=CLICKS, jitter_vox=JITTER_VOX, seed=1)
        write_table(folder / "simulated" / f"clicks_{purpose}.csv", clicks, conversion=Conversion(spacing=spacing))
    return truth


def _read(path: Path) -> Particles:
    from tomostream.formats.registry import read_table

    return read_table(path)


def _write_configuration(folder: Path, truth: Particles) -> Path:
    """Write the YAML that a user would write for this data set."""
    simulated = folder / "simulated"
    species = SPECIES
    counts = {name: len(truth.of(tomogram=name, species=species)) for name in truth.tomograms()}
    # a user knows a rough number, not the truth: the mean, rounded up to tens, for every tomogram
    expected = int(np.ceil(np.mean(list(counts.values())) / 10) * 10)
    values = {
        "project": str(folder),
        "tomograms": [str(simulated / "*.mrc")],
        "species": [{"name": species, "radius": "135A", "expected": expected}],
        "labels": {"train": [str(simulated / "clicks_train.csv")], "validate": [str(simulated / "clicks_validate.csv")]},
        "train": {"steps": STEPS},
        "predict": {"precision": "bf16"},
        "pick": {"count": "truth"},
        "truth": str(simulated / "truth.csv"),
        "tolerance": "10vox",
    }
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path
