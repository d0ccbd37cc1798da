"""`suggest` for a whole project, with the settings of its last run."""

from __future__ import annotations

from pathlib import Path

from tomostream.config import load_configuration
from tomostream.particles import Particles
from tomostream.progress import Progress
from tomostream.project import Project
from tomostream.stages.picks.suggestions import suggest_from_run
from tomostream.stages.shared.resolved_run import resolve


def suggest_from_project(folder: Path, *, points: int, output: Path, progress: Progress) -> Particles:
    """Suggest `points` candidates in the score maps of a project, and write them to `output`.

    Raises
    ------
    InputError
        If the folder is not a project, or has no score maps yet.
    """
    configuration = load_configuration(Project(folder).resolved)
    tables = [*configuration.labels.train, *configuration.labels.validate_]
    return suggest_from_run(
        resolve(configuration, with_clicks=False, with_heads=False), tables, points=points, output=output, progress=progress
    )
