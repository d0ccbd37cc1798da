"""What is a model of the strategy `deepetpicker`, and how does it score?  A `CoordinateUNet`'s weights, and the patches that it was made for.

The strategy is the strongest rival of the paper, built from its description: residual U-Net with coordinate channels and image pyramid
(`strategies.deepetpicker.network`), labels of a ball's core (`label_radius`), Dice loss (`strategies.deepetpicker.loss`), patches with a padding (`strategies.deepetpicker.patches`),
mean-pooling of the binarised scores (`picking.mean_pool`).

References
----------
Liu et al. 2024, "DeepETPicker", Nature Communications 15, 2090.
"""

from typing import Any

import numpy as np
import torch

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.geometry import Triple, triple
from tomostream.inference.batch_statistics import Sampling
from tomostream.strategies.deepetpicker.network import CoordinateUNet
from tomostream.strategies.deepetpicker.patches import PatchScorer
from tomostream.strategies.model_folder import StrategyModel

NAME = "deepetpicker"
_LARGEST_LABEL_VOX = 5.0  # 11 voxels of diameter


def label_radius(radius: float) -> float:
    """Radius of the label of a particle, voxels: a core of it, of 11 voxels' diameter at most, so that labels of touching particles don't."""
    return min(defaults.CORE_LABEL * radius, _LARGEST_LABEL_VOX)


def network_arrays(network: torch.nn.Module) -> dict[str, np.ndarray]:
    """What a model folder keeps of a network: weights and batch statistics."""
    return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items() if value.ndim > 0}


def model_options(network: CoordinateUNet, patch: Triple) -> dict[str, Any]:
    """What a model folder must say besides: the network's shape and its patches (edges, voxels of the level)."""
    return {"channels": list(network.channels), "patch": list(patch), "padding": defaults.PATCH_PADDING_VOX}


def patch_sampling(network: CoordinateUNet, patch: Triple) -> Sampling:
    """The crops that a tomogram's batch-norm statistics come from: patches, whose coordinates the network knows."""
    return Sampling(patch, triple([network.stride] * 3), defaults.DEEPETPICKER_RECALIBRATION_CROPS, batch=2)


def load_network(model: StrategyModel) -> tuple[CoordinateUNet, Triple, int]:
    """The network of a model folder, in evaluation mode; edges and padding of its patches, voxels.

    Raises
    ------
    InputError
        If the model is broken.
    """
    options = model.settings.options
    try:
        network = CoordinateUNet([int(c) for c in options["channels"]], len(model.settings.species), seed=0)
        patch, padding = triple([int(edge) for edge in options["patch"]]), int(options["padding"])
        own = network.state_dict()
        if set(model.arrays) != {name for name, value in own.items() if value.ndim > 0}:
            raise ValueError("its arrays are not those of the network")
        network.load_state_dict(own | {name: torch.from_numpy(np.array(value)) for name, value in model.arrays.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"model folder {model.folder} is broken: {' '.join(str(error).split())[:300]}") from None
    return network.eval(), patch, padding


def patch_scorer(model: StrategyModel, device: str, precision: str, threads: int | None) -> PatchScorer:
    """Make a model ready to score blocks.

    Raises
    ------
    InputError
        If device or precision are unknown or not there, or the model is broken.
    """
    network, patch, padding = load_network(model)
    return PatchScorer(network, edge=patch, padding=padding, device=device, precision=precision, threads=threads)
