"""Options that a command shares with others, or that a plug-in adds: one parameter of its function stands for all of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any


def with_options(
    command: Callable[..., None], name: str, make: Callable[..., object], parameters: Sequence[inspect.Parameter]
) -> Callable[..., None]:
    """Replace a command's parameter `name` by options, from whose values `make` makes it."""
    own = inspect.signature(command, eval_str=True).parameters
    kept = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own.values() if parameter.name != name]

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        options = {parameter.name: given.pop(parameter.name) for parameter in parameters}
        command(**given, **{name: make(**options)})

    shown = [*kept, *parameters]
    wrapped.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # what typer asks a function for
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return wrapped
