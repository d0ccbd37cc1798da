"""`suggest` for a whole project: with the settings of the configuration that its last run left there."""

from __future__ import annotations

from pathlib import Path

from tomostream.config import load_configuration
from tomostream.particles import Particles
from tomostream.progress import Progress
from tomostream.project import Project
from tomostream.stages.picks.suggestions import suggest_from_run
from tomostream.stages.shared.resolved_run import resolve


def suggest_from_project(folder: Path, *, points: int, output: Path, progress: Progress) -> Particles:
    """Suggest places in the score maps of a project.

    Raises
    ------
    InputError
        If the folder is no project, or it has no score maps yet.
    """
    configuration = load_configuration(Project(folder).resolved)
    tables = [*configuration.labels.train, *configuration.labels.validate_]
    return suggest_from_run(
        resolve(configuration, with_clicks=False, with_heads=False), tables, points=points, output=output, progress=progress
    )
