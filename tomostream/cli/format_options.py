"""The options that table formats add to the commands that read or write tables."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated

import typer

from tomostream.cli.added_options import with_options
from tomostream.errors import InputError
from tomostream.formats.catalogued import FORMATS, format_options
from tomostream.formats.conversion import Conversion

PANEL = "Of some formats"


def takes_format_options(*, reads: bool = False, writes: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the formats' options for reading or writing; it gets those that were given, parsed, as `format_options`."""
    known = {option: takers for option, takers in format_options().items() if (reads and option.reads) or (writes and option.writes)}
    parameters = [
        inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None,
                typer.Option(
                    option.flag,
                    metavar=option.metavar,
                    help=f"{option.help} ({', '.join(takers)})",
                    show_default=False,
                    rich_help_panel=PANEL,
                ),
            ],
        )
        for option, takers in known.items()
    ]

    def parsed(**given: str | None) -> dict[str, object]:
        return {option.name: option.parse(text, option.flag) for option in known if (text := given[option.name]) is not None}

    return lambda command: with_options(command, "format_options", parsed, parameters)


def refuse_unused(conversion: Conversion, *format_names: str) -> None:
    """Refuse options that none of these formats uses: they show that another format was meant.

    Raises
    ------
    InputError
        If one was given.
    """
    for option, takers in format_options().items():
        if format_names and conversion.given(option) is not None and set(format_names) <= set(FORMATS) - set(takers):
            raise InputError(
                f"{option.flag} is for {' and '.join(takers)}, but the format is {' and '.join(dict.fromkeys(format_names))}; leave it out, or give "
                f"--format {' or '.join(takers)}"
            )
