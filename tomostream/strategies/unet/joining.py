"""Two U-Nets as one: a network whose channels are those of both, side by side, and whose logits are a weighted sum of theirs.

Nothing else must know that there were two: blocks, memory, batch statistics of a tomogram and the GPU take the joined network as any other.
Between the two halves all weights are zero; so it costs somewhat more than both, and rounds as they do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tomostream.strategies.unet.joined_channels import joined_channels
from tomostream.strategies.unet.network import ResidualUNet

_CONVOLUTION = 5  # dimensions of its weights: outputs, inputs, z, y, x
_HEAD = "head."


def join(first: ResidualUNet, second: ResidualUNet, weights: Sequence[float]) -> ResidualUNet:
    """Return the network whose logits are first + weight second, less the second's bias; each with its own batch statistics.

    Parameters
    ----------
    first, second
        Of the same levels and species, and of channels that can be joined (`are_joinable`); left as they are.
    weights
        Of the second network's logits, one a species.
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


def _part(state: dict[str, torch.Tensor], name: str, channels: Sequence[int]) -> torch.Tensor:
    """One network's weights; where its block passes its input on as it is, those that do so."""
    if name in state:
        return state[name].cpu()
    count = channels[0] if name.startswith("decoders") else channels[int(name.split(".")[1])]
    return torch.zeros(count) if name.endswith("bias") else torch.eye(count).reshape(count, count, 1, 1, 1)


def _side_by_side(a: torch.Tensor, b: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Weights of a convolution of both halves; where the input is the image, both read it."""
    result = torch.zeros(shape)
    result[: a.shape[0], : a.shape[1]] = a
    result[a.shape[0] :, shape[1] - b.shape[1] :] = b
    return result


def first_of(joined: ResidualUNet, channels: Sequence[int]) -> ResidualUNet:
    """Return the first of two joined networks, bit for bit.

    Parameters
    ----------
    channels
        Of the first network's levels.
    """
    result = ResidualUNet(channels, joined.species, seed=0)
    whole = joined.state_dict()
    state = {name: whole[name][tuple(slice(0, n) for n in like.shape)] for name, like in result.state_dict().items()}
    result.load_state_dict(state)
    return result.eval().requires_grad_(False)
