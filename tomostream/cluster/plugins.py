"""Worker plug-ins: load what stays in memory; choose one GPU.

Imported only where there are workers: distributed takes half a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pickle
import re
from pathlib import Path
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from tomostream.cluster.worker_cache import Load, forget, resident

_DEVICES = Path("/dev")


class Keep(WorkerPlugin):
    """Loads when it arrives, frees when it leaves.

    Parameters
    ----------
    load
        What tasks ask for by `resident`.
    """

    def __init__(self, load: Load[object]) -> None:
        self.load = load
        self.name = f"tomostream-{hashlib.sha256(pickle.dumps(load)).hexdigest()[:16]}"

    async def setup(self, worker: object) -> None:
        """Load outside the worker's event loop, so that it keeps answering."""
        del worker
        with contextlib.suppress(Exception):  # the first task meets it again, where it is counted and reported
            await asyncio.to_thread(resident, self.load)

    def teardown(self, worker: object) -> None:
        """Free it."""
        del worker
        forget(self.load)


class OneGpu(WorkerPlugin):
    """Give each worker process of a machine its own GPU: the last number of its name says which."""

    name = "tomostream-one-gpu"

    def setup(self, worker: Any) -> None:
        """Before anything of the process asks the driver."""
        number = re.search(r"(\d+)$", str(worker.name))
        if number is None:
            return
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        index = int(number[1])
        # where the cards can't be counted, there is one for each process
        names = visible.split(",") if visible else [str(card) for card in range(_cards() or index + 1)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[index % len(names)]


def _cards(devices: Path = _DEVICES) -> int:
    """Number of NVIDIA's cards, as the system shows them; without a library that would start the driver."""
    return sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in devices.glob("nvidia*"))
