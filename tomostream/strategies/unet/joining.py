"""Join two U-Nets in one network whose channels are those of both, side by side, and whose logits are the weighted sum of both logits.

All other code treats the joined network like any U-Net: planning, memory, batch-norm statistics and the GPU.  The weights between the two halves
are zero, so the joined network computes somewhat more than the two alone, and gives their values to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tomostream.strategies.unet.joined_channels import joined_channels
from tomostream.strategies.unet.network import ResidualUNet

_CONVOLUTION = 5  # dimensions of a convolution's weights: outputs, inputs, z, y, x
_HEAD = "head."


def join(first: ResidualUNet, second: ResidualUNet, weights: Sequence[float]) -> ResidualUNet:
    """Return the network whose logits are those of the first plus `weights` times those of the second without its bias.

    Each half keeps its own batch-norm statistics.

    Parameters
    ----------
    first, second
        Networks with the same number of levels and species, and channels that can be joined (`are_joinable`); not modified.
    weights
        Weight of the second network's logits, one per species.
    """
    result = ResidualUNet(joined_channels(first.channels, second.channels), first.species, seed=0)
    one, two = first.state_dict(), second.state_dict()
    scale = torch.tensor(np.asarray(weights, dtype=np.float32))
    state: dict[str, torch.Tensor] = {}
    for name, like in result.state_dict().items():
        a, b = (_part(own, name, channels) for own, channels in ((one, first.channels), (two, second.channels)))
        if name.startswith(_HEAD):
            b = b * scale.reshape(-1, *[1] * (b.ndim - 1))
            state[name] = a if a.ndim == 1 else torch.cat([a, b], dim=1)
        elif like.ndim == _CONVOLUTION:
            state[name] = _side_by_side(a, b, tuple(like.shape))
        else:
            state[name] = a if like.ndim == 0 else torch.cat([a, b])
    result.load_state_dict(state)
    return result.eval().requires_grad_(False)


def scaled(network: ResidualUNet, factors: Sequence[float]) -> ResidualUNet:
    """Return a network whose logits are those of `network` times a factor per species; the network itself if all factors are 1."""
    if all(factor == 1 for factor in factors):
        return network
    result = ResidualUNet(network.channels, network.species, seed=0)
    scale = torch.tensor(np.asarray(factors, dtype=np.float32))
    state = {name: value.cpu() for name, value in network.state_dict().items()}
    for name, value in state.items():
        if name.startswith(_HEAD):
            state[name] = value * scale.reshape(-1, *[1] * (value.ndim - 1))
    result.load_state_dict(state)
    return result.eval().requires_grad_(False)


def _part(state: dict[str, torch.Tensor], name: str, channels: Sequence[int]) -> torch.Tensor:
    """Return the weights of one network under a name of the joined network; an identity skip path becomes an identity convolution."""
    if name in state:
        return state[name].cpu()
    count = channels[0] if name.startswith("decoders") else channels[int(name.split(".")[1])]
    return torch.zeros(count) if name.endswith("bias") else torch.eye(count).reshape(count, count, 1, 1, 1)


def _side_by_side(a: torch.Tensor, b: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the weights of a convolution that applies `a` and `b` to the two halves of the channels, or both to the image."""
    result = torch.zeros(shape)
    result[: a.shape[0], : a.shape[1]] = a
    result[a.shape[0] :, shape[1] - b.shape[1] :] = b
    return result


def first_of(joined: ResidualUNet, channels: Sequence[int]) -> ResidualUNet:
    """Return the first of two joined networks, with exactly the weights it had.

    Parameters
    ----------
    joined
        The joined network.
    channels
        Channels of the first network's levels.
    """
    result = ResidualUNet(channels, joined.species, seed=0)
    whole = joined.state_dict()
    state = {name: whole[name][tuple(slice(0, n) for n in like.shape)] for name, like in result.state_dict().items()}
    result.load_state_dict(state)
    return result.eval().requires_grad_(False)
