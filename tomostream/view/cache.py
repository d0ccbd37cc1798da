"""Which arrays stay in memory?  The most recently used ones, up to a number of bytes.

Several threads may ask for the same thing at once: it is made once, and the others wait for it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

import numpy as np

_ENTRY_BYTES = 400  # of the key and the tables, besides the array


class ArrayCache:
    """Keeps arrays, least recently used dropped first.

    Parameters
    ----------
    limit
        Bytes of all arrays together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._making: dict[Hashable, Future[np.ndarray]] = {}
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return self._bytes

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what is kept under `key`, or make it; the caller must not write into it.

        An array larger than the limit is returned and not kept.
        """
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
            future = self._making.get(key)
            is_mine = future is None
            if future is None:
                future = self._making[key] = Future()
        if not is_mine:
            return future.result()
        try:
            made = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            self._keep(key, made)
        future.set_result(made)
        return made

    def forget(self, is_stale: Callable[[Any], bool]) -> None:
        """Drop what is kept under keys of which `is_stale` says so."""
        with self._lock:
            for key in [key for key in self._kept if is_stale(key)]:
                self._bytes -= self._kept.pop(key).nbytes + _ENTRY_BYTES

    def _keep(self, key: Hashable, made: np.ndarray) -> None:
        size = made.nbytes + _ENTRY_BYTES
        if size > self.limit:
            return
        self._kept[key] = made
        self._bytes += size
        while self._bytes > self.limit:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes + _ENTRY_BYTES
