"""Let a forked process compute Dask graphs.

Dask keeps its thread pools for the next graph.  A forked process (`multiprocessing` on Linux, workers of a torch `DataLoader`) inherits the
pools without their threads, so its first graph would wait for ever.  Importing this module makes every process that is forked afterwards forget
them; it imports no Dask itself.
"""

import os
import sys
import threading


def _forget_pools() -> None:
    threaded = sys.modules.get("dask.threaded")
    if threaded is not None:
        threaded.default_pool = None  # type: ignore[attr-defined]  # Dask has no types
        threaded.pools.clear()
        threaded.pools_lock = threading.Lock()  # type: ignore[attr-defined]  # another thread may have held it when the process was forked


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)
