"""The command that lists what is installed: strategies."""

from __future__ import annotations

import typer

from tomostream.cli import options
from tomostream.cli.console import print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(rich_help_panel="The whole path")(strategies)


def strategies(json: options.Json = False) -> None:
    """List the strategies that are installed, ours and other packages': what `objective.name` may say."""
    from tomostream.catalogue import STRATEGIES, installed
    from tomostream.errors import InputError
    from tomostream.strategies.catalogued import strategy_named

    rows: list[dict[str, str]] = []
    for name, address in installed(STRATEGIES).items():
        try:
            summary = strategy_named(name).summary
        except InputError as error:  # a broken plug-in is shown, and stops nobody
            summary = f"broken: {error}"
        rows.append({"name": name, "summary": summary, "module": address.partition(":")[0]})
    if json:
        print_json(rows)
    else:
        print_table(("strategy", "what it is", "module"), [list(row.values()) for row in rows])
