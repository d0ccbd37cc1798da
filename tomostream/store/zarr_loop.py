"""Zarr's event loop, started before it is needed: where its thread can't start, zarr itself would wait for ever.

zarr-python keeps one loop in a thread of its own.  It notes the loop before it starts the thread, so that after a failed start (no memory, no more threads
allowed) the next call finds a loop that never runs, and waits for it.
"""

from __future__ import annotations

import os
import threading
import time

from zarr.core import sync as zarr_sync

from tomostream.errors import MachineError

_LONGEST = 120.0  # seconds that a busy machine may take
_STEP = 0.002
_lock = threading.Lock()  # a second thread must not take a loop that is being started for one that failed


def start_loop() -> None:
    """See that zarr's loop runs; it costs nothing where it does.

    Raises
    ------
    MachineError
        If its thread can't start; a later call tries again.
    """
    if _runs():
        return
    with _lock:
        if _runs():
            return
        thread = zarr_sync.iothread[0]
        if thread is None or not thread.is_alive():
            _forget()
        try:
            _wait()
        except (RuntimeError, MemoryError, TimeoutError) as error:
            _forget()
            raise MachineError(
                f"the thread that reads stores can't start ({error or type(error).__name__}): this process may take no more memory, or no more "
                "threads; close other programs, use fewer --workers, or raise its limits (ulimit -v, ulimit -u, the job's memory)"
            ) from None


def _runs() -> bool:
    thread, loop = zarr_sync.iothread[0], zarr_sync.loop[0]
    return thread is not None and thread.is_alive() and loop is not None and loop.is_running()


def _wait() -> None:
    """Start the loop, and wait until its thread runs it."""
    loop = zarr_sync._get_loop()  # zarr has no other way to start it
    until = time.monotonic() + _LONGEST
    while not loop.is_running():
        thread = zarr_sync.iothread[0]
        if thread is None or not thread.is_alive():
            raise RuntimeError("it ended at once")
        if time.monotonic() > until:
            raise TimeoutError(f"it did not run within {_LONGEST:g} s")
        time.sleep(_STEP)


def _forget() -> None:
    """Let zarr make another loop."""
    loop = zarr_sync.loop[0]
    if loop is not None and not loop.is_running():
        loop.close()
    zarr_sync.loop[0] = zarr_sync.iothread[0] = None


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603 (another thread of the parent may have held the old one)
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
