"""Find an installed strategy by its name, without importing torch."""

from typing import cast

from tomostream.catalogue import STRATEGIES, find
from tomostream.strategies.protocol import Strategy


def strategy_named(name: str) -> Strategy:
    """Return the installed strategy of a name, which is a value of `objective.name`.

    Raises
    ------
    InputError
        If no such strategy is installed, its package is broken, or it does not implement `Strategy`.
    """
    return cast(Strategy, find(STRATEGIES, name, "strategy", Strategy))
