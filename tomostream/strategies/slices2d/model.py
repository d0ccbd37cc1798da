"""What is a model of the strategy `slices2d`?  A `SliceDetector`'s weights, and the channels that it is built from.

The strategy is the paper's rival that works in two dimensions, built from its description: a single-shot detector of boxes on x-y slices
(`detector`, `single_shot`), and boxes traced through z (`picking.tracing`).  Between them stands a score map, as for every strategy: boxes are
painted as peaks (`painting`), which picking finds again.

References
----------
Wagner et al. 2019, "SPHIRE-crYOLO is a fast and accurate fully automated particle picker for cryo-EM", Communications Biology 2, 218.
"""

from typing import Any

import numpy as np
import torch

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.inference.batch_statistics import Sampling
from tomostream.strategies.model_folder import StrategyModel
from tomostream.strategies.slices2d.detector import SliceDetector
from tomostream.strategies.slices2d.scoring import SliceScorer

NAME = "slices2d"
_SLAB_SLICES = 8


def network_arrays(network: torch.nn.Module) -> dict[str, np.ndarray]:
    """What a model folder keeps of a network: weights and batch statistics."""
    return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items() if value.ndim > 0}


def model_options(network: SliceDetector) -> dict[str, Any]:
    """What a model folder must say besides: the network's shape."""
    return {"channels": list(network.channels)}


def slice_sampling(network: SliceDetector) -> Sampling:
    """The crops that a tomogram's batch-norm statistics come from: some slices of the height of a label or so."""
    edge = -(-defaults.SLICES2D_CROP_VOX // network.stride) * network.stride
    return Sampling((_SLAB_SLICES, edge, edge), (1, network.stride, network.stride))


def load_network(model: StrategyModel) -> SliceDetector:
    """The network of a model folder, in evaluation mode.

    Raises
    ------
    InputError
        If the model is broken.
    """
    settings = model.settings
    try:
        network = SliceDetector([int(c) for c in settings.options["channels"]], len(settings.species), seed=0)
        own = network.state_dict()
        if set(model.arrays) != {name for name, value in own.items() if value.ndim > 0}:
            raise ValueError("its arrays are not those of the network")
        network.load_state_dict(own | {name: torch.from_numpy(np.array(value)) for name, value in model.arrays.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"model folder {model.folder} is broken: {' '.join(str(error).split())[:300]}") from None
    return network.eval()


def slice_scorer(model: StrategyModel, device: str, precision: str, threads: int | None) -> SliceScorer:
    """Make a model ready to score blocks.

    Raises
    ------
    InputError
        If device or precision are unknown or not there, or the model is broken.
    """
    settings = model.settings
    radius = [r / (settings.spacing * 2**settings.level) for r in settings.radius_ang]
    return SliceScorer(load_network(model), radius=radius, device=device, precision=precision, threads=threads)
