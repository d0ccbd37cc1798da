"""Prepare a network for scoring: batch-norm folded, on its device, in the precision asked for, with the last layer in float32."""

import copy
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import nn

from tomostream.learn.batch_norm_folding import deployed
from tomostream.learn.level_network import LevelNetwork
from tomostream.learn.precision import inference_type

LIVE_MAPS = 6  # feature maps of the finest level in memory at the peak, scratch of the convolutions included
KERNEL_BYTES = 60_000_000  # scratch and code of the convolution kernels
N = TypeVar("N", bound=LevelNetwork)


@dataclass(frozen=True, slots=True)
class Deployment(Generic[N]):
    """A network ready to score.

    Parameters
    ----------
    network
        Folded; its weights are channels last, which is faster on processors.
    head
        Its last layer in float32, so that logits keep their precision even if the feature maps are bf16.
    device, type
        Of the images and feature maps.
    """

    network: N
    head: nn.Conv3d
    device: torch.device
    type: torch.dtype

    @property
    def voxel_bytes(self) -> int:
        """Bytes of the finest level's feature maps per voxel, counting at least four channels."""
        return self.type.itemsize * max(self.network.channels[0], 4)


def deploy(network: N, *, device: torch.device, precision: str) -> Deployment[N]:
    """Copy a network for scoring.

    Parameters
    ----------
    network
        Trained, or already folded; it is left as it is.
    precision
        `float32` or `bf16`.

    Raises
    ------
    InputError
        If the precision is unknown.
    """
    kind = inference_type(precision)
    folded = deployed(network)
    head = copy.deepcopy(folded.head).to(device)
    there = folded.to(device=device, dtype=kind, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs lack memory_format beside dtype
    return Deployment(there, head, device, kind)
