"""How good is a model on tomograms of the other kind?  Models trained on defocus-only data pick in phase-plate data, and the other way round.

Use the models of finished experiments to score tomograms 03 and 04 of the other domain, and pick at the true count.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import tomostream as ts
from bench.accuracy.systems import CORRELATIONS, SYSTEMS, TESTED, Experiment

OTHER = {"DEF": "VPP", "VPP": "DEF"}


def cross(experiment: Experiment, data: Path, work: Path, threads: int | None) -> dict[str, Any]:
    """Evaluate the experiment's model on the other domain; return the JSON values of the evaluation."""
    model = work / "runs" / experiment.name / "model"
    scores = work / "crossed" / experiment.name
    smooth = SYSTEMS[experiment.system].get("pick", {}).get("smooth")
    precision = "float32" if experiment.system in CORRELATIONS else "bf16"
    truth = ts.read_particles(data / "truth.csv").of(species=experiment.species)
    tables = []
    names = [f"{OTHER[experiment.domain]}_{number}" for number in TESTED]
    stores = [work / "tomograms" / f"{name}.ome.zarr" for name in names]
    for name, store in zip(names, stores, strict=True):
        path = ts.predict(store, model, out=scores, precision=precision, threads=threads, overwrite=True)
        count = len(truth.of(tomogram=name))
        tables.append(ts.pick(path, radius="135A", count=count, smooth=smooth))
    shutil.rmtree(scores)
    found = ts.evaluate(ts.Particles.concatenate(tables), truth, species=[experiment.species], tomograms=stores)
    return {"experiment": experiment.values, "at_true_count": found.to_json()}
