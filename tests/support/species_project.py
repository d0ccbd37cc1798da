"""A small project with two species and their models, made by the strategy that trains fastest."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from small_project import make_project

from tomostream.config import configuration_from
from tomostream.pipeline.execution import run_project
from tomostream.progress import Progress

SPECIES = ("ribosome", "fas")
FAST = {"objective": {"name": "average"}, "train": {}}


def run(values: Mapping[str, Any], *stages: str, overwrite: bool = False, progress: Progress | None = None) -> None:
    """Run stages of a configuration; none: all."""
    run_project(configuration_from(values, "test"), stages=stages, overwrite=overwrite, progress=progress or Progress())


def two_species(folder: Path, **given: Any) -> dict[str, Any]:
    """Write the project, and return its configuration; nothing is run."""
    values: dict[str, Any] = yaml.safe_load(make_project(folder, species=2, **(FAST | given)).read_text())
    return values


def with_fewer_clicks(values: Mapping[str, Any], species: str, table: Path) -> dict[str, Any]:
    """The configuration with a table of its own, which lacks the last training click of a species."""
    lines = Path(values["labels"]["train"][0]).read_text().splitlines()
    last = max(number for number, line in enumerate(lines) if f",{species}," in line)
    table.write_text("\n".join(lines[:last] + lines[last + 1 :]) + "\n")
    return {**values, "labels": {**values["labels"], "train": [str(table)]}}


def elsewhere(values: Mapping[str, Any], folder: Path, names: Sequence[str] = SPECIES) -> dict[str, Any]:
    """The configuration of the same data with another project folder, and some of the species only."""
    return {**values, "project": str(folder), "species": [one for one in values["species"] if one["name"] in names]}


class Heard(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        """Keep it."""
        self.said.append(text)

    def warn(self, text: str) -> None:
        """Keep it."""
        self.warned.append(text)
