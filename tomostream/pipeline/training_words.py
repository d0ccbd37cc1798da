"""Describe the training for readers who don't know how it works, from the model's record and its `metrics.csv`."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import Any

from tomostream.errors import TomostreamError
from tomostream.formats.registry import read_table
from tomostream.learn.training_files import METRICS_NAME, SPECIES_COLUMN
from tomostream.project import Project
from tomostream.remote.places import Place
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.strategies.model_folder import TrainingSummary, read_record
from tomostream.strategies.several_models import summary_of

_CURVES = {  # columns of metrics.csv that are drawn, and their titles
    "train_loss": "loss, on the crops that training saw",
    "val_loss": "loss, on crops of the validation tomograms",
    "val_recall": "share of the validation clicks that are found",
}


_MOST = 0.9  # without an expected number, tell how many picks it takes to include this share of the left-out clicks


@dataclass(frozen=True, slots=True)
class TrainingWords:
    """The report's account of training: sentences, and curves by title."""

    sentences: list[str]
    curves: dict[str, list[float]]


def training_words(run: ResolvedRun) -> TrainingWords:
    """Describe the training of the model in the project folder."""
    project = run.project
    try:
        record = read_record(project.model)
        reported = {species: summary_of(record, project.model, species) for species in run.species_names}
    except TomostreamError:
        return TrainingWords(["There is no finished model in this project."], {})
    summary = record.summary
    clicks = {purpose: _count(project, purpose) for purpose in ("train", "validate")}
    sentences = [f"{_learnt(clicks['train'])}, with the strategy {run.strategy.name}{_places(record.settings.get('trained_on'))}."]
    tables = _metrics(project.model / METRICS_NAME)
    rows = tables.get("", [])
    if summary.best_epoch is not None and len(rows) > 1:
        sentences.append(f"Of {len(rows)} epochs, the {_ordinal(summary.best_epoch)} was the best, and was kept.")
        sentences += _validated(rows[summary.best_epoch - 1] if summary.best_epoch <= len(rows) else {}, clicks["validate"], run)
    for species, found in reported.items():
        if found is not None:
            sentences += _left_out(*found, species if len(run.species) > 1 else "")
    return TrainingWords(sentences, _curves(tables))


def _curves(tables: dict[str, list[dict[str, float]]]) -> dict[str, list[float]]:
    """Return the curves to draw, by title; those of several models name their species."""
    return {
        f"{title} ({species})" if species else title: [row[key] for row in rows]
        for species, rows in tables.items()
        for key, title in _CURVES.items()
        if len(rows) > 1 and all(key in row for row in rows)
    }


def _learnt(clicks: int | None) -> str:
    return "The model was trained" if clicks is None else f"The model was trained on {clicks} {'click' if clicks == 1 else 'clicks'}"


def _places(names: Any) -> str:
    if not isinstance(names, list | tuple) or not names:
        return ""
    shown = ", ".join(map(str, names[:4]))
    return f", in {shown}" + (f" and {len(names) - 4} more tomograms" if len(names) > 4 else "")


def _validated(row: dict[str, float], clicks: int | None, run: ResolvedRun) -> list[str]:
    """Say how many validation clicks the kept epoch finds, with as many picks as particles are expected."""
    recall = row.get("val_recall")
    if recall is None or not math.isfinite(recall):
        return []
    told = f"{100 * recall:.0f} % of the validation clicks"
    if clicks and len(run.species) == 1 and abs(recall * clicks - round(recall * clicks)) < 1e-3:
        told = f"Of the {clicks} validation clicks, which were not used for training, {round(recall * clicks)}"
    return [f"{told} are found, with as many picks as particles are expected."]


def _left_out(summary: TrainingSummary, number: int, species: str) -> list[str]:
    """Say how early one species' left-out clicks are found, and how scores are made if these clicks decided it."""
    sentences: list[str] = []
    ranks = (summary.left_out_ranks or [])[number : number + 1]
    expected = (summary.expected_numbers or [])[number : number + 1]
    about = f"{species}: of" if species else "Of"
    if ranks and ranks[0]:
        numbers = [one for one in (expected[0] if expected else [None]) if one is not None]
        is_expected = bool(expected) and len(numbers) == len(expected[0]) > 0
        among = max(1, sum(numbers)) if is_expected else math.floor(sorted(ranks[0])[math.ceil(_MOST * len(ranks[0])) - 1]) + 1
        found = sum(rank < among for rank in ranks[0])
        sentences.append(
            f"{about} {len(ranks[0])} clicks left out in turn, {found} {'is' if found == 1 else 'are'} among the first {among} picks of the clicked tomograms"
            + (" (as many as particles are expected there)." if is_expected else ".")
        )
    ways = (summary.chosen_ways or [])[number : number + 1]
    if ways:
        sentences.append(f"{species + ': s' if species else 'S'}cores are computed by {ways[0]}, which the clicks have chosen.")
    if any((summary.look_alikes or [])[number : number + 1]):
        sentences.append(
            f"{species + ': t' if species else 'T'}he best picks were of two kinds by their radial profiles; picks that look like those of the better half are preferred."
        )
    return sentences


def _count(project: Project, purpose: str) -> int | None:
    """Count the clicks that were used; None if their table can't be read."""
    try:
        return len(read_table(project.labels / f"{purpose}.csv").positives())
    except (TomostreamError, OSError):
        return None


def _metrics(path: Place) -> dict[str, list[dict[str, float]]]:
    """Return the rows of the metrics by species; of a single model by the empty name."""
    tables: dict[str, list[dict[str, float]]] = {}
    if path.exists():
        for row in csv.DictReader(path.read_text().splitlines()):
            species = row.pop(SPECIES_COLUMN, "")
            tables.setdefault(species, []).append({key: float(value) for key, value in row.items() if value})
    return tables


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
