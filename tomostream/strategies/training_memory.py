"""Check that training fits the memory budget, before anything is converted or read.

A training process holds the libraries, the feature maps that a step keeps for the backward pass (`Strategy.step_bytes`), and a buffer of voxels.
The buffer gets a quarter of the budget, or what the rest leaves of it.  On a GPU the feature maps are in the GPU's memory and don't count.
Training without steps holds what it learns from the clicks (`clicks_bytes` of a strategy that has it), and no buffer.
"""

from __future__ import annotations

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.config.configuration import LearningSettings
from tomostream.errors import BudgetError
from tomostream.strategies.protocol import LearnsFromClicks, Strategy
from tomostream.units import format_bytes

_BUFFER_SHARE = 4  # the buffer takes at most one part in this many of the budget
_LEAST_BUFFER = 50_000_000  # bytes


def training_bytes(strategy: Strategy, settings: LearningSettings) -> int:
    """Return the projected peak memory of a training process, in bytes, without its buffer of voxels."""
    step = strategy.step_bytes(settings)
    if step is None:
        step = strategy.clicks_bytes(settings) if isinstance(strategy, LearnsFromClicks) else 0
    return LIBRARIES_BYTES + TORCH_BYTES + step


def training_buffer(strategy: Strategy, settings: LearningSettings) -> int:
    """Return the size of the buffer of voxels of a training process, in bytes; 0 for a strategy that takes no training steps.

    Raises
    ------
    BudgetError
        If a step and the smallest buffer exceed the memory budget, or what a strategy without steps holds does.
    """
    memory, needed = settings.memory, training_bytes(strategy, settings)
    if strategy.step_bytes(settings) is None:
        if isinstance(strategy, LearnsFromClicks) and needed > memory:
            raise BudgetError(
                f"training needs at least {format_bytes(needed)} (objective {strategy.name}: features around the clicks and of their background) "
                f"but the memory budget is {format_bytes(memory)}; raise --memory to that"
            )
        return 0
    if needed + _LEAST_BUFFER > memory:
        train = settings.train
        raise BudgetError(
            f"training needs at least {format_bytes(needed + _LEAST_BUFFER)} ({train.batch} crops of {train.crop} voxels, "
            f"{settings.network.channels[0]} channels at the finest level) but the memory budget is {format_bytes(memory)}; raise --memory to that, or "
            "lower train.batch, train.crop or network.channels"
        )
    return min(memory // _BUFFER_SHARE, memory - needed)
