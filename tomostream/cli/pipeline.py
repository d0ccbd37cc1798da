"""Commands for the whole path: run, demo."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tomostream.cli import options
from tomostream.cli.console import ConsoleProgress, print_json, print_table
from tomostream.cli.resource_options import Overrides, takes_overrides
from tomostream.cli.tables import show_evaluation


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command(rich_help_panel="The whole path")(demo)
    app.command(rich_help_panel="The whole path")(run)


@takes_overrides
def run(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml", help="The configuration; see docs/configuration.md.", show_default=False)
    ],
    stage: Annotated[
        list[str] | None,
        typer.Option(
            "--stage",
            metavar="STAGE",
            help="Only this stage (repeat): convert, stats, train, predict, pick, evaluate or report.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan, with projected memory and disk.")] = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    *,
    overrides: Overrides,
) -> None:
    """Process a data set from start to end: convert, stats, train, predict, pick, evaluate, report. Run it again to resume."""
    from tomostream.config import load_configuration
    from tomostream.learn.torchrun import refuse_torchrun
    from tomostream.pipeline.dry_run import plan_run, refuse_other_settings
    from tomostream.pipeline.execution import check_stages, run_project
    from tomostream.project import Project, kept_log

    refuse_torchrun("run")
    stages = check_stages(stage or [])
    configuration = overrides.applied_to(load_configuration(config))
    if dry_run:
        plan = plan_run(configuration, stages, ConsoleProgress(), overwrite=overwrite)
        if json:
            print_json([asdict(step) for step in plan])
        else:
            print_table(("stage", "tomogram", "state", "memory", "disk", "work"), [step.row() for step in plan])
        refuse_other_settings(plan)
        return
    with kept_log(Project(configuration.project)) as log:
        evaluation = run_project(configuration, stages=stages, overwrite=overwrite, progress=ConsoleProgress(log))
    if json:
        print_json({"project": str(configuration.project), "evaluation": evaluation.to_json() if evaluation else None})
    elif evaluation is not None:
        show_evaluation(evaluation)


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Project folder.")] = Path("tomostream-demo"),
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Simulate a small data set and process it from start to end: picks and a report, in at most 5 minutes on 2 cores."""
    from tomostream.pipeline.demonstration import run_demo

    evaluation = run_demo(folder, overwrite=overwrite, make_progress=ConsoleProgress)
    if json:
        print_json({"project": str(folder), "evaluation": evaluation.to_json()})
    else:
        show_evaluation(evaluation)
        ConsoleProgress().say(f"open {folder / 'report.html'}; for your own data, start with `tomostream init FOLDER_OF_TOMOGRAMS`")
