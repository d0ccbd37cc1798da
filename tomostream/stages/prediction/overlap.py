"""How many shards are processed at once beside a GPU?  While it computes one, others are read, copied and written: as many as fit into memory.

The bytes do not depend on it: the device computes for one shard at a time, in the tiles of the plan.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.learn.device_memory import device_budget
from tomostream.learn.precision import resolve_device

if TYPE_CHECKING:
    from tomostream.inference.plan import PredictionPlan

_MOST = 4  # a GPU waits for no more
_DEVICE_SHARE = 4  # of its memory, for what waits there; the rest is the network's


def shards_at_once(plans: Iterable[PredictionPlan], *, memory: int, gpu_memory: int | None) -> int:
    """Threads that score shards beside one GPU; at least 1.

    Parameters
    ----------
    plans
        Of the tomograms.
    memory
        Budget of the process, bytes.
    gpu_memory
        What it may take of the GPU's, bytes; None: see `device_budget`.
    """
    # what a shard takes on a processor, libraries apart, is more than what it takes beside a GPU
    each = max((plan.block_bytes - LIBRARIES_BYTES - TORCH_BYTES for plan in plans), default=1)
    on_device = device_budget(resolve_device("cuda"), gpu_memory) // _DEVICE_SHARE
    fitting = min((memory - LIBRARIES_BYTES - TORCH_BYTES) // each, on_device // each)
    return max(1, min(_MOST, os.cpu_count() or 1, fitting))
