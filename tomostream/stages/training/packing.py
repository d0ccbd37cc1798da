"""Where the model of each species is trained, and how the models become one folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from tomostream.learn.training_files import METRICS_NAME, PARTS_NAME, SPECIES_COLUMN
from tomostream.remote.atomic_files import write_atomically
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.strategies.several_models import pack


def part_folder(folder: Path, run: ResolvedRun) -> Path:
    """Return the folder of the model of a run with one species."""
    return folder / PARTS_NAME / run.species[0].name


def pack_models(folder: Path, runs: Sequence[ResolvedRun]) -> None:
    """Write the folder of several models from those of the runs with one species each; their metrics become one table.

    Raises
    ------
    InputError
        If a model can't be read, or the folder can't be written.
    """
    parts = [part_folder(folder, run) for run in runs]
    rows: list[dict[str, str]] = []
    for run, part in zip(runs, parts, strict=True):
        table = part / METRICS_NAME
        own = csv.DictReader(table.read_text(encoding="utf-8").splitlines()) if table.exists() else []
        rows += [{SPECIES_COLUMN: run.species[0].name} | row for row in own]
    if rows:
        text = io.StringIO()
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(folder / METRICS_NAME, text.getvalue().encode())
    pack(folder, parts)
