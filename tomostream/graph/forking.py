"""Let a forked process compute graphs.

Dask keeps its pools of threads for the next graph.  A process that was forked (`multiprocessing` on Linux, workers of a torch `DataLoader`) has the
pools, but none of their threads: its first graph would wait for ever.
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
    """Let each process that this one forks from now on make pools of its own."""
    os.register_at_fork(after_in_child=_forget_pools)
