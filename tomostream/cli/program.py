"""The program's commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from tomostream.cli import check, data, init, learning, orienting, status, strategies, tables, view
from tomostream.cli import pipeline as whole
from tomostream.version import VERSION

app = typer.Typer(
    name="tomostream",
    help="Pick particles in cryo-electron tomograms from a few clicks, out of core.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for module in (whole, init, view, status, check, strategies, data, learning, tables, orienting):
    module.register(app)


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(VERSION)
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)] = False,
) -> None:
    del version  # its callback has done the work
