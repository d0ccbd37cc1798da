"""Check that training fits the memory, before anything is converted or read.

A process that trains holds the libraries, what a step keeps for the backward pass (the strategy says how much), and a buffer of voxels: a quarter
of the budget, or what is left of it.  On a GPU the step's share lies in the GPU's memory.
"""

from __future__ import annotations

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.config.configuration import LearningSettings
from tomostream.errors import BudgetError
from tomostream.strategies.protocol import Strategy
from tomostream.units import format_bytes

_BUFFER_SHARE = 4  # the buffer is one over this of the budget at most
_LEAST_BUFFER = 50_000_000


def training_bytes(strategy: Strategy, settings: LearningSettings) -> int:
    """Projected peak of a process that trains, its buffer apart."""
    return LIBRARIES_BYTES + TORCH_BYTES + (strategy.step_bytes(settings) or 0)


def training_buffer(strategy: Strategy, settings: LearningSettings) -> int:
    """Bytes of voxels that a process which trains may hold; 0 for a strategy without steps, which holds none.

    Raises
    ------
    BudgetError
        If the budget does not hold a step.
    """
    if strategy.step_bytes(settings) is None:
        return 0
    memory, needed = settings.memory, training_bytes(strategy, settings)
    if needed + _LEAST_BUFFER > memory:
        train = settings.train
        raise BudgetError(
            f"training needs at least {format_bytes(needed + _LEAST_BUFFER)} ({train.batch} crops of {train.crop} voxels, "
            f"{settings.network.channels[0]} channels at the finest level) but the memory budget is {format_bytes(memory)}; raise --memory to that, or "
            "lower train.batch, train.crop or network.channels"
        )
    return min(memory // _BUFFER_SHARE, memory - needed)
