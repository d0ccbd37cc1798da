"""An installed strategy by its name; nothing here imports torch."""

from typing import cast

from tomostream.catalogue import STRATEGIES, find
from tomostream.strategies.protocol import Strategy


def strategy_named(name: str) -> Strategy:
    """Return an installed strategy, by what `objective.name` says.

    Raises
    ------
    InputError
        If it is not installed, its package is broken, or it lacks a part of `Strategy`.
    """
    return cast(Strategy, find(STRATEGIES, name, "strategy", Strategy))
