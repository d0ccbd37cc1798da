"""A 3-D residual U-Net from densities to logits, whose reach in voxels is known exactly.

Per level, finest first, a residual block of two 3x3x3 convolutions (zero padding), each with batch-norm and ReLU:

    image ─ block ───────────────────────── + ─ block ─ 1x1x1 ─ logits
              └ max-pool 2 ─ block ─ 1x1x1 ─┘ (each voxel repeated 2 x 2 x 2)

Levels are joined by a sum, not by concatenation: the joined map has half the channels, so the decoder costs half as much.  Batch-norm
(not instance or group norm) makes every output voxel a function of its surroundings only, so that blocks can be exact; it is folded
into the convolutions for inference (`learn.batch_norm_folding`).

Limits: input edges must be multiples of the total stride, 2^(levels - 1).

References
----------
Ronneberger, Fischer, Brox 2015 (U-Net); He et al. 2016 (residual blocks); Liu et al. 2024 (DeepETPicker's residual 3-D U-Net).
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional as F

from tomostream.errors import InputError
from tomostream.learn.layers import ConvNorm

Interval = tuple[int, int]


class ResidualBlock(nn.Module):
    """relu(skip(x) + norm(conv(relu(norm(conv(x)))))), where the skip is a 1x1x1 convolution if the channels change."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs)
        self.second = ConvNorm(outputs, outputs)
        self.skip: nn.Module = nn.Identity() if inputs == outputs else nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block; the spatial shape stays."""
        # in place: fresh memory costs more than the arithmetic
        result = self.second(F.relu(self.first(x), inplace=True))
        result += self.skip(x)
        return F.relu(result, inplace=True)


def _widened(outputs: Interval, block: nn.Module) -> Interval:
    """Inputs of a block on which its outputs (first, last) depend: every 3x3x3 convolution adds a voxel on each side."""
    reach = sum(layer.kernel_size[0] // 2 for layer in block.modules() if isinstance(layer, nn.Conv3d))
    return outputs[0] - reach, outputs[1] + reach


class ResidualUNet(nn.Module):
    """A 3-D residual U-Net from one density channel to one logit per species.

    Parameters
    ----------
    channels
        Channels of the levels, finest first; their number is the number of levels.
    species
        Number of species, that is of output channels.
    prior
        Expected fraction of positive voxels of each species, in (0, 1); the final bias starts at its logit, so that training starts at the
        prior.  None: 0.5.
    seed
        Of the initial weights; the global random state is left alone.

    Raises
    ------
    InputError
        If there is no level, or a number is out of range.
    """

    def __init__(self, channels: Sequence[int], species: int, *, prior: Sequence[float] | None = None, seed: int) -> None:
        super().__init__()
        self.channels = tuple(int(c) for c in channels)
        self.species = int(species)
        if not self.channels or min(self.channels) < 1:
            raise InputError(f"network.channels must be one or more positive integers, finest level first, found {list(channels)}")
        if self.species < 1:
            raise InputError(f"a network needs at least one species, found {species}")
        start = [0.5] * self.species if prior is None else list(prior)
        if len(start) != self.species or not all(0 < p < 1 for p in start):
            raise InputError(f"prior must be one fraction between 0 and 1 for each of the {self.species} species, found {start}")
        with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made; these are replaced below
            wide = self.channels
            self.encoders = nn.ModuleList(ResidualBlock(a, b) for a, b in itertools.pairwise((1, *wide)))
            self.narrows = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in itertools.pairwise(wide))
            self.decoders = nn.ModuleList(ResidualBlock(a, a) for a in wide[:-1])
            self.head = nn.Conv3d(wide[0], self.species, 1)
        self._initialise(start, seed)

    def _initialise(self, prior: Sequence[float], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.head.weight.mul_(0.03)  # first scores near the prior, whatever the image
            self.head.bias.copy_(torch.tensor([math.log(p / (1 - p)) for p in prior]))  # type: ignore[union-attr]  # the head has a bias

    @property
    def stride(self) -> int:
        """Total stride: input edges must be multiples of it."""
        return int(2 ** (len(self.channels) - 1))

    @property
    def parameters_count(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.parameters())

    @property
    def influence_radius(self) -> int:
        """Largest distance, along an axis, at which an input voxel can change an output voxel; worst case over the phase.

        An output voxel with this many voxels between it and a block's edge (the edge on a multiple of the stride) does not know that the
        edge is there: the network's zero padding beyond it reaches exactly as far as data beyond it would.
        """
        intervals = [(x, self._decoder_dependence(0, (x, x))) for x in range(self.stride)]
        return max(max(x - low, high - x) for x, (low, high) in intervals)

    def _encoder_dependence(self, level: int, outputs: Interval) -> Interval:
        """Input voxels on which the encoder's voxels `outputs` (first, last) of this level depend."""
        low, high = _widened(outputs, self.encoders[level])
        return (low, high) if level == 0 else self._encoder_dependence(level - 1, (2 * low, 2 * high + 1))  # max-pool

    def _decoder_dependence(self, level: int, outputs: Interval) -> Interval:
        """Input voxels on which the decoder's voxels `outputs` (first, last) of this level depend."""
        if level == len(self.channels) - 1:
            return self._encoder_dependence(level, outputs)
        low, high = _widened(outputs, self.decoders[level])
        same = self._encoder_dependence(level, (low, high))
        coarser = self._decoder_dependence(level + 1, (low // 2, high // 2))  # repeated voxels
        return min(same[0], coarser[0]), max(same[1], coarser[1])

    def forward(self, image: Float[torch.Tensor, "n 1 z y x"]) -> Float[torch.Tensor, "n s z y x"]:
        """Logits of every voxel.

        Raises
        ------
        InputError
            If an edge is no multiple of the total stride.
        """
        if any(edge % self.stride for edge in image.shape[2:]):
            raise InputError(
                f"the network takes volumes whose edges are multiples of its stride {self.stride} ({len(self.channels)} levels), "
                f"found {tuple(image.shape[2:])} (z, y, x); extend the volume at its far ends"
            )
        x = self.encoders[0](image)
        kept = []
        for encoder in list(self.encoders)[1:]:
            kept.append(x)
            x = encoder(F.max_pool3d(x, 2))
        for level in reversed(range(len(kept))):
            x = F.interpolate(self.narrows[level](x), scale_factor=2, mode="nearest")
            x += kept.pop()
            x = self.decoders[level](x)
        logits: torch.Tensor = self.head(x)
        return logits
