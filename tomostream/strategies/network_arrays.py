"""Convert a network's weights and batch-norm statistics to NumPy arrays, and load them back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from tomostream.errors import InputError

N = TypeVar("N", bound=nn.Module)


def network_arrays(network: nn.Module) -> dict[str, np.ndarray]:
    """Return the arrays that a model folder stores of a network: its weights and batch-norm statistics, by name."""
    return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items() if value.ndim > 0}


def with_arrays(network: N, arrays: Mapping[str, np.ndarray], folder: Path) -> N:
    """Load the arrays of a model folder into a network, in place, and return it in evaluation mode.

    Raises
    ------
    InputError
        If the names or shapes of the arrays are not those of the network.
    """
    own = network.state_dict()
    try:
        if set(arrays) != {name for name, value in own.items() if value.ndim > 0}:
            raise ValueError("its arrays don't match the network")
        network.load_state_dict(own | {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"model folder {folder} is broken: {' '.join(str(error).split())[:300]}") from None
    return network.eval()
