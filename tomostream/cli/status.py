"""The command that shows the progress of a run from another shell: status."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tomostream.cli import options
from tomostream.cli.console import print_json, print_table

if TYPE_CHECKING:
    from tomostream.pipeline.status import RunStatus

_WATCH_SECONDS = 5.0
_MOST_ROWS = 40  # tomograms that are listed without --all


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(rich_help_panel="The whole path")(status)


def status(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Project folder of `run`, or its configuration.", show_default=False)],
    watch: Annotated[bool, typer.Option("--watch", help=f"Repeat every {_WATCH_SECONDS:g} s until the run ends.")] = False,
    every: Annotated[bool, typer.Option("--all", help=f"List every tomogram (default: at most {_MOST_ROWS} that are not done).")] = False,
    json: options.Json = False,
) -> None:
    """Show the progress of a run: stages, tomograms, shards, failures, time left. Changes nothing; works from any shell, during the run or later."""
    from tomostream.pipeline.status import read_status

    while True:
        found = read_status(run)
        if json:
            print_json(asdict(found))
        else:
            _show(found, every)
        if not watch or not found.is_running:
            return
        time.sleep(_WATCH_SECONDS)


def _model(found: RunStatus) -> str:
    """The state of the model in words: `training fas, 2 of 3, step 120 of 400`."""
    if found.training is None:
        return found.model + (f" ({found.steps} steps)" if found.steps else "")
    where = str(found.training)
    at = "" if not where else f" at {where}" if found.model == "stopped" else f" {where}"
    return found.model + at + ("; the model of before serves until this one is whole" if found.replaces else "")


def _resting(found: RunStatus) -> str:
    """Why an unfinished run does not run: some tomograms failed and the others are done, or it was stopped."""
    sound = {name: states for name, states in found.tomograms.items() if name not in found.failures}
    is_done = found.model == "done" and all(one.state in ("done", "-") for states in sound.values() for one in states.values())
    if sound and is_done and found.failures:
        return f"done but for {len(found.failures)} of {len(found.tomograms)} tomograms, which failed: mend them, and run its configuration again"
    return "not running, and not finished: run its configuration again to go on"


def _show(found: RunStatus, every: bool) -> None:
    if not found.has_started:
        typer.echo(f"{found.project}: no run has started there")
        return
    if found.is_finished:
        typer.echo(f"{found.project}: finished; made: {', '.join(found.made)}")
        return
    who = f"running ({found.owner})" if found.is_running else _resting(found)
    stage = f", {'stage' if found.is_running else 'last stage'} {found.stage}" if found.stage else ""
    typer.echo(f"{found.project}: {who}{stage}; model {_model(found)}")
    if found.last_event:
        typer.echo(
            f"last event {found.last_event}{'; evaluated' if found.is_evaluated else ''}{f'; {found.retries} tasks tried again' if found.retries else ''}"
        )
    for name, counts in found.counts.items():
        typer.echo(f"{name}: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    if found.per_minute is not None and found.seconds_left is not None:
        typer.echo(f"{found.per_minute:.2g} tomograms a minute; about {found.seconds_left / 60:.0f} min left in this stage")
    rows = [
        [name, *(str(states[stage]) for stage in found.counts)]
        for name, states in found.tomograms.items()
        if every or any(state.state not in ("done", "-") for state in states.values())
    ]
    if rows:
        print_table(("tomogram", *found.counts), rows if every else rows[:_MOST_ROWS])
        if not every and len(rows) > _MOST_ROWS:
            typer.echo(f"... and {len(rows) - _MOST_ROWS} more (--all)")
    if found.failures:
        print_table(("failed", "why"), [[name, why] for name, why in found.failures.items()])
