"""Load the pretrained backbone that ships with the package, whose features distinguish particles of any kind.

Its weights were learnt from simulated tomograms of random shapes alone (bench/pretraining), never from the density of a real protein;
`backbone.json` beside them records how.  The file is checked by its hash, so that a damaged installation gives a clear error and not worse picks.
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
    """A residual U-Net without its head, and the other parameters that pretraining learnt.

    Parameters
    ----------
    body
        Weights and batch-norm statistics by name, float32.
    anything
        Weights (k, c) and biases (k,) of heads that detect the centres of particles of any kind, one head per class of size.
    own_share
        Weight of the clicks' covariance in the covariance that the few-shot head inverts, between 0 and 1; see `head`.
    scale, bias
        Scale and bias of the logits of a few-shot head.
    """

    body: dict[str, torch.Tensor]
    anything: tuple[Float64[np.ndarray, "k c"], Float64[np.ndarray, " k"]]
    own_share: float
    scale: float
    bias: float

    def with_head(self, weights: Float64[np.ndarray, "s c"], biases: Float64[np.ndarray, " s"]) -> ResidualUNet:
        """Return the network with a linear head that gives one logit per species."""
        network = ResidualUNet(CHANNELS, len(weights), seed=0)
        head = nn.Conv3d(CHANNELS[0], len(weights), 1)
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weights)[:, :, None, None, None])
            head.bias.copy_(torch.from_numpy(biases))  # type: ignore[union-attr]  # the head has a bias
        network.load_state_dict(self.body | {f"head.{name}": value for name, value in head.state_dict().items()}, strict=False)
        return network.eval().requires_grad_(False)

    def features(self) -> ResidualUNet:
        """Return a network whose outputs are the features, (c, z, y, x)."""
        return self.with_head(np.eye(CHANNELS[0]), np.zeros(CHANNELS[0]))


@functools.cache
def shipped_backbone() -> Backbone:
    """Return the backbone of this installation; it is read once.

    Raises
    ------
    InputError
        If its file is missing or does not belong to this version.
    """
    path = importlib.resources.files("tomostream.strategies.unet.pretrained") / _NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"the pretrained backbone {path} can't be read: {error.strerror or error}; install tomostream again") from None
    return read_backbone(content, str(path))


def read_backbone(content: bytes, path: str) -> Backbone:
    """Build the backbone from the content of its file.

    Parameters
    ----------
    content
        Content of the file.
    path
        Path of the file, for messages.

    Raises
    ------
    InputError
        If the hash or the channels are not those of the shipped backbone.
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
