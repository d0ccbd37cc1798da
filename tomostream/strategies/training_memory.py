"""Does training fit the memory?  Known before anything is converted or read.

A process that trains holds the libraries, what a step keeps for the backward pass, and a buffer of voxels: a quarter of the budget, or what the
others leave of it.  On a GPU a step's part is the GPU's.

Limits: a step of `deepetpicker` or `slices2d` was not measured; theirs is not projected, and their buffer is a quarter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.errors import BudgetError
from tomostream.units import format_bytes

if TYPE_CHECKING:
    from tomostream.config import Configuration

# per voxel, channel of the finest level, and crop, of all levels, at the peak of a step; measured: 58 to 75, 40 to 51
_STEP_BYTES = {"float32": 76, "bf16": 52}
_BUFFER_SHARE = 4  # the buffer is one over this of the budget at most
_LEAST_BUFFER = 50_000_000


def training_bytes(configuration: Configuration) -> int:
    """Projected peak of a process that trains, its buffer apart."""
    from tomostream.learn.precision import resolve_device, resolve_precision

    train = configuration.train
    libraries = LIBRARIES_BYTES + TORCH_BYTES
    device = resolve_device(configuration.predict.device)
    if configuration.strategy != "unet" or device.type != "cpu":
        return libraries
    each = _STEP_BYTES[resolve_precision(train.precision, device)]
    return libraries + each * configuration.network.channels[0] * train.batch * train.crop**3


def training_buffer(configuration: Configuration) -> int:
    """Bytes of voxels that a process which trains may hold.

    Raises
    ------
    BudgetError
        If the budget does not hold a step.
    """
    memory, needed = configuration.memory_bytes, training_bytes(configuration)
    if needed + _LEAST_BUFFER > memory:
        train = configuration.train
        raise BudgetError(
            f"training needs at least {format_bytes(needed + _LEAST_BUFFER)} ({train.batch} crops of {train.crop} voxels, "
            f"{configuration.network.channels[0]} channels at the finest level) but the memory budget is {format_bytes(memory)}; raise --memory to that, or "
            "lower train.batch, train.crop or network.channels"
        )
    return min(memory // _BUFFER_SHARE, memory - needed)
