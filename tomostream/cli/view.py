"""The command that opens the workbench in a browser: view."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.units import parse_bytes


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(rich_help_panel="The whole path")(view)


def view(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH...]",
            help="Tomograms (MRC or OME-Zarr), folders of them, a project folder, or a configuration (default: this folder).",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, metavar="N", help="Port on 127.0.0.1; 0: any free port.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    clicks: Annotated[
        Path | None,
        typer.Option(
            "--clicks",
            metavar="TABLE",
            help="CSV table of clicks (default: the configuration's first, else PROJECT/clicks.csv).",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Project folder for the results (default: that of the run or configuration, else ./tomostream-view).",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[str, typer.Option("--memory", metavar="SIZE", help="Budget of the server; GB = 10^9 bytes.")] = defaults.MEMORY,
) -> None:
    """Open a workbench in the browser, on this machine only: view tomograms, click particles, train, pick and correct."""
    try:
        import starlette  # noqa: F401  (only whether it is there)
        import uvicorn  # noqa: F401  (likewise)
    except ImportError as error:
        raise InputError(f"the workbench needs {error.name}; install tomostream again, with its dependencies") from None
    from tomostream.view.serving import serve
    from tomostream.view.workspace import open_workspace

    workspace = open_workspace(paths or ["."], project=output, clicks=clicks)
    serve(workspace, port=port, memory=parse_bytes(memory, "--memory"), with_browser=not no_browser)
