"""What does the network know before anybody clicks?  The weights that ship with the package: features that tell particles of any kind apart.

They were learnt from simulated tomograms alone (bench/pretraining): random shapes, never a density of a real protein.  `backbone.json` beside
them says how.  The file is checked by its hash, so that a damaged installation is one clear error and no worse picks.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
import struct
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from safetensors.torch import load as load_tensors
from torch import nn

from tomostream.errors import InputError
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.pretrained.settings import CHANNELS, SHA256

_NAME = "backbone.safetensors"
_BODY = "body."


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A residual U-Net without its head, and what else the pretraining learnt.

    Parameters
    ----------
    body
        Weights and batch-norm statistics by name, float32.
    anything
        Weights (k, c) and biases (k,) of heads that see the centres of particles of any kind, one for each class of size.
    own_share
        Share of the clicks' own covariance in the spread that the few-shot head divides by.
    scale, bias
        Of the head's logits.
    """

    body: dict[str, torch.Tensor]
    anything: tuple[Float64[np.ndarray, "k c"], Float64[np.ndarray, " k"]]
    own_share: float
    scale: float
    bias: float

    def with_head(self, weights: Float64[np.ndarray, "s c"], biases: Float64[np.ndarray, " s"]) -> ResidualUNet:
        """The network with a linear head: one logit a species."""
        network = ResidualUNet(CHANNELS, len(weights), seed=0)
        head = nn.Conv3d(CHANNELS[0], len(weights), 1)
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weights)[:, :, None, None, None])
            head.bias.copy_(torch.from_numpy(biases))  # type: ignore[union-attr]  # the head has a bias
        network.load_state_dict(self.body | {f"head.{name}": value for name, value in head.state_dict().items()}, strict=False)
        return network.eval().requires_grad_(False)

    def features(self) -> ResidualUNet:
        """The network whose outputs are the features themselves, (c, z, y, x)."""
        return self.with_head(np.eye(CHANNELS[0]), np.zeros(CHANNELS[0]))


@functools.cache
def shipped_backbone() -> Backbone:
    """The backbone of this installation.

    Raises
    ------
    InputError
        If its file is missing or not the one that belongs to this version.
    """
    path = importlib.resources.files("tomostream.strategies.unet.pretrained") / _NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"the pretrained backbone {path} can't be read: {error.strerror or error}; install tomostream again") from None
    return read_backbone(content, str(path))


def read_backbone(content: bytes, path: str) -> Backbone:
    """A backbone from the bytes of its file.

    Raises
    ------
    InputError
        If the hash is another one.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise InputError(
            f"the pretrained backbone {path} is damaged: its sha256 must be {SHA256}, found {found}; install tomostream again, "
            "or choose another objective (nnpu, average)"
        )
    (length,) = struct.unpack("<Q", content[:8])
    channels = tuple(json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["backbone"])["channels"])
    if channels != CHANNELS:
        raise InputError(f"the pretrained backbone {path} must have the channels {CHANNELS}, found {channels}; install tomostream again")
    state = {name: value.float() for name, value in load_tensors(content).items()}
    weights, biases = (state[f"sizes.{name}"].double().numpy() for name in ("weight", "bias"))
    return Backbone(
        body={name.removeprefix(_BODY): value for name, value in state.items() if name.startswith(_BODY)},
        anything=(weights.reshape(len(weights), -1), biases),
        own_share=float(torch.sigmoid(state["own_share"])),
        scale=float(torch.exp(state["scale"])),
        bias=float(state["bias"]),
    )
