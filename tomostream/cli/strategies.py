"""The command that lists the installed strategies: strategies."""

from __future__ import annotations

import typer

from tomostream.cli import options
from tomostream.cli.console import print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(rich_help_panel="The whole path")(strategies)


def strategies(json: options.Json = False) -> None:
    """List the installed strategies, ours and those of other packages: the values of `objective.name`."""
    from tomostream.catalogue import STRATEGIES, installed
    from tomostream.errors import InputError
    from tomostream.strategies.catalogued import strategy_named

    rows: list[dict[str, str]] = []
    for name, address in installed(STRATEGIES).items():
        try:
            summary = strategy_named(name).summary
        except InputError as error:  # list a broken plug-in instead of failing
            summary = f"broken: {error}"
        rows.append({"name": name, "summary": summary, "module": address.partition(":")[0]})
    if json:
        print_json(rows)
    else:
        print_table(("strategy", "what it is", "module"), [list(row.values()) for row in rows])
