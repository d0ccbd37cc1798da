"""How do the models of several species become one folder?"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from tomostream.learn.training_files import METRICS_NAME, SPECIES_COLUMN
from tomostream.remote.atomic_files import write_atomically
from tomostream.strategies.several_models import pack


def pack_models(folder: Path, parts: Mapping[str, Path]) -> None:
    """Write the folder of several models from those of one species each; their metrics become one table.

    Parameters
    ----------
    parts
        Their folders by species, in the order of the species.

    Raises
    ------
    InputError
        If a model can't be read, or the folder can't be written.
    """
    rows: list[dict[str, str]] = []
    for species, part in parts.items():
        table = part / METRICS_NAME
        own = csv.DictReader(table.read_text(encoding="utf-8").splitlines()) if table.exists() else []
        rows += [{SPECIES_COLUMN: species} | row for row in own]
    if rows:
        text = io.StringIO()
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(folder / METRICS_NAME, text.getvalue().encode())
    pack(folder, list(parts.values()))
