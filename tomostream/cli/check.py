"""The command that verifies results on disk: check."""

from __future__ import annotations

from typing import Annotated

import typer

from tomostream import defaults
from tomostream.cli import options
from tomostream.cli.console import ConsoleProgress, print_json
from tomostream.cli.resource_options import MEMORY
from tomostream.units import parse_bytes


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(rich_help_panel="The whole path")(check)


def check(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Stores, score maps, MRC files, model folders, tables of picks, project folders, or folders of them.",
            show_default=False,
        ),
    ],
    repair: Annotated[bool, typer.Option("--repair", help="Make damaged parts again where possible, with the same bytes.")] = False,
    json: options.Json = False,
    memory: MEMORY = defaults.MEMORY,
) -> None:
    """Read everything, compare checksums, hashes, levels and statistics, and list damaged parts. Exit code 0: intact, 2: damaged."""
    from tomostream.stages.checking.stage import check_paths

    found = check_paths(paths, repair=repair, memory=parse_bytes(memory, "--memory"), progress=ConsoleProgress())
    if json:
        print_json([damage.to_json() for damage in found])
    else:
        for damage in found:
            typer.echo(str(damage))
    if found:
        raise typer.Exit(2)
    if not json:
        typer.echo("whole")
