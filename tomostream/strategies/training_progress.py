"""How far is a training?  Read from the files that it keeps; from any process, while it runs or after it stopped."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tomostream.errors import InputError
from tomostream.learn.training_files import CONFIGURATION_NAME, METRICS_NAME, NEXT_NAME, PARTS_NAME, SPECIES_COLUMN, newest
from tomostream.strategies.training_record import read_training_record

Table = dict[str, list[float]]  # columns by name


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where a training is.

    Parameters
    ----------
    species
        Whose model is in training, and which it is of how many, counted from 1; None: the only one.
    step
        Steps done at the end of the last epoch.
    steps
        As many are to be done; None: not known.
    """

    species: str | None
    number: int
    count: int
    step: int
    steps: int | None

    def __str__(self) -> str:
        which = [] if self.species is None else [f"{self.species}, {self.number} of {self.count}"]
        how_far = [f"step {self.step}" + (f" of {self.steps}" if self.steps else "")] if self.step else []
        return ", ".join([*which, *how_far])


def training_progress(folder: Path) -> TrainingProgress:
    """Return how far the training of a model folder is: that of the species which began or went on last."""
    place = newest(folder, CONFIGURATION_NAME).parent
    is_part = place.parent.name == PARTS_NAME
    names = _species_of(place.parents[1]) if is_part else []
    return TrainingProgress(
        species=place.name if is_part else None,
        number=names.index(place.name) + 1 if place.name in names else 1,
        count=max(1, len(names)),
        step=last_step(metrics_of(place / METRICS_NAME).get("", {})),
        steps=_steps(place / CONFIGURATION_NAME),
    )


def last_step(table: Table) -> int:
    """Return the steps done at the end of the last epoch of a table of metrics; 0 if it has none."""
    steps = table.get("step", [])
    return int(steps[-1]) if steps and math.isfinite(steps[-1]) else 0


def latest_metrics(folder: Path) -> dict[str, Table]:
    """Return the metrics of the last training in a model folder, by species; of a single model by the empty name.

    While several are trained, those of the species that are done or in training; NaN where a row has no value.
    """
    last = newest(folder, METRICS_NAME)
    if last.parent.parent.name != PARTS_NAME:
        return metrics_of(last)
    whole = last.parents[2]
    places = {
        name: [whole / PARTS_NAME / name, *([folder / PARTS_NAME / name] if whole.name == NEXT_NAME else [])] for name in _species_of(whole)
    }
    found = {
        name: next((table for place in own if (table := metrics_of(place / METRICS_NAME).get(""))), {}) for name, own in places.items()
    }
    return {name: table for name, table in found.items() if table}


def metrics_of(path: Path) -> dict[str, Table]:
    """Return a table of metrics by species; of a single model by the empty name; nothing if it can't be read."""
    found: dict[str, Table] = {}
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    for row in rows:
        table = found.setdefault(row.pop(SPECIES_COLUMN, None) or "", {})
        for name, value in row.items():
            if name is not None:
                table.setdefault(name, []).append(_number(value))
    return found


def _species_of(folder: Path) -> list[str]:
    """The species of several models, in their order, as the record of their training has them."""
    try:
        recorded = read_training_record(folder) or {}
    except (OSError, InputError):
        return []
    models = recorded.get("models")
    return list(models) if isinstance(models, dict) else []


def _steps(configuration: Path) -> int | None:
    try:
        values: Any = yaml.safe_load(configuration.read_text(encoding="utf-8"))
        steps = values["train"]["steps"]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return None
    return steps if isinstance(steps, int) else None


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
