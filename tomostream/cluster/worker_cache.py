"""What a worker keeps in memory between tasks: the model, loaded once per process and freed after the stage.

1. The client registers a plugin (`plugins.Keep`) that carries a small *load*: a hashable, picklable value that, called, does the loading.
2. Each worker calls it as the plugin arrives (a worker that joins later: as it starts); a task asks for the same load by `resident`.
3. The plugin leaves with the stage, and what it loaded with it.

A load that fails in the plugin is silent: the first task that asks meets the same error, where it is counted and reported.

Limits: a client that is killed can't withdraw its plugin; so a worker keeps no more than `_MOST` things, the oldest goes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Protocol, TypeVar, runtime_checkable

R_co = TypeVar("R_co", covariant=True)
_MOST = 2
_kept: OrderedDict[Hashable, Any] = OrderedDict()
_lock = threading.Lock()


@runtime_checkable  # the tests check annotations as they run
class Load(Protocol[R_co]):
    """A hashable, picklable value that loads something when it is called."""

    def __call__(self) -> R_co:
        """Load."""

    def __hash__(self) -> int:
        """Equal loads have equal hashes."""


def resident(load: Load[R_co]) -> R_co:
    """What `load` gives: loaded by the first call in this process, the same object for later ones."""
    with _lock:
        if load not in _kept:
            _kept[load] = load()
            while len(_kept) > _MOST:
                _kept.popitem(last=False)
        value: R_co = _kept[load]
        return value


def forget(load: Load[object]) -> None:
    """Free what was loaded, if it was."""
    with _lock:
        _kept.pop(load, None)
