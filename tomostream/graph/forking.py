"""Make Dask graphs work in forked processes.

Dask keeps its thread pools for the next graph.  A forked process (`multiprocessing` on Linux, workers of a torch `DataLoader`) inherits the
pools without their threads, so its first graph would wait for ever.
"""

import os
import threading
from functools import cache

import dask.threaded


def _forget_pools() -> None:
    dask.threaded.default_pool = None
    dask.threaded.pools.clear()
    dask.threaded.pools_lock = threading.Lock()  # another thread may have held it when the process was forked


@cache
def survive_forks() -> None:
    """Register a hook that makes every process forked from now on start with pools of its own."""
    os.register_at_fork(after_in_child=_forget_pools)
