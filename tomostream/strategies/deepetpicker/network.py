"""The network of DeepETPicker: a residual 3-D U-Net that sees each voxel's coordinates in the patch, at every scale.

Built from the paper's description, with three things that `ResidualUNet` lacks:

- coordinate channels: z, y and x of each voxel, from -1 to 1 across the patch, beside the density;
- an image pyramid: every coarser level of the encoder also sees the density, averaged over 2, 4, ... voxels;
- ELU instead of ReLU.

    density, z, y, x ─ block ──────────────────────────── + ─ block ─ 1x1x1 ─ logits
                         └ max-pool 2 ─ + ─ block ─ 1x1x1 ─┘ (each voxel repeated 2 x 2 x 2)
    density averaged over 2 ─ 1x1x1 ────┘

Levels are joined by sums.  Batch-norm stands behind every 3x3x3 convolution and is folded for inference (`learn.batch_norm_folding`).

Limits: a logit depends on the place in the patch, so scores are those of fixed patches only (`strategies.deepetpicker.patches`); input edges must be
multiples of the total stride, 2^(levels - 1).

References
----------
Liu, Niu, Qiu, Zhu, Sun, Yang 2024, "DeepETPicker: fast and accurate 3D particle picking for cryo-electron tomography using weakly
supervised deep learning", Nature Communications 15, 2090; Liu et al. 2018, "An intriguing failing of convolutional neural networks and
the CoordConv solution"; Clevert et al. 2016, "Fast and accurate deep network learning by exponential linear units".
"""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional as F

from tomostream.errors import InputError
from tomostream.learn.layers import ConvNorm

_INPUTS = 4  # density and three coordinates


class EluBlock(nn.Module):
    """elu(skip(x) + norm(conv(elu(norm(conv(x)))))), where the skip is a 1x1x1 convolution if the channels change."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs)
        self.second = ConvNorm(outputs, outputs)
        self.skip: nn.Module = nn.Identity() if inputs == outputs else nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block; the spatial shape stays."""
        result = self.second(F.elu(self.first(x)))
        result = result + self.skip(x)
        return F.elu(result)


class CoordinateUNet(nn.Module):
    """A 3-D residual U-Net with coordinate channels and an image pyramid, one logit per species.

    Parameters
    ----------
    channels
        Channels of the levels, finest first; their number is the number of levels.
    species
        Number of species, that is of output channels.
    seed
        Of the initial weights; the global random state is left alone.

    Raises
    ------
    InputError
        If there is no level, or a number is out of range.
    """

    def __init__(self, channels: Sequence[int], species: int, *, seed: int) -> None:
        super().__init__()
        self.channels = tuple(int(c) for c in channels)
        self.species = int(species)
        if not self.channels or min(self.channels) < 1:
            raise InputError(f"network.channels must be one or more positive integers, finest level first, found {list(channels)}")
        if self.species < 1:
            raise InputError(f"a network needs at least one species, found {species}")
        wide = self.channels
        with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made; these are replaced below
            self.encoders = nn.ModuleList(EluBlock(a, b) for a, b in itertools.pairwise((_INPUTS, *wide)))
            self.pyramid = nn.ModuleList(nn.Conv3d(1, c, 1) for c in wide[:-1])  # joins what is pooled from the level above
            self.narrows = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in itertools.pairwise(wide))
            self.decoders = nn.ModuleList(EluBlock(a, a) for a in wide[:-1])
            self.head = nn.Conv3d(wide[0], self.species, 1)
        self._initialise(seed)

    def _initialise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.head.weight.mul_(0.1)  # first scores near 0.5, where the gradient of the Dice loss is largest

    @property
    def stride(self) -> int:
        """Total stride: input edges must be multiples of it."""
        return int(2 ** (len(self.channels) - 1))

    def features(self, image: Float[torch.Tensor, "n 1 z y x"]) -> Float[torch.Tensor, "n c z y x"]:
        """Return the finest decoder's feature maps, on which the head works.

        Raises
        ------
        InputError
            If an edge is no multiple of the total stride.
        """
        if any(edge % self.stride for edge in image.shape[2:]):
            raise InputError(
                f"the network takes patches whose edges are multiples of its stride {self.stride} ({len(self.channels)} levels), "
                f"found {tuple(image.shape[2:])} (z, y, x)"
            )
        x: torch.Tensor = self.encoders[0](_with_coordinates(image))
        kept = []
        density = image.float()  # bf16 has no average
        for encoder, join in zip(list(self.encoders)[1:], self.pyramid, strict=True):
            kept.append(x)
            density = F.avg_pool3d(density, 2)
            x = encoder(F.max_pool3d(x, 2) + join(density.to(image.dtype)))
        for narrow, decoder in zip(reversed(self.narrows), reversed(self.decoders), strict=True):
            x = decoder(F.interpolate(narrow(x), scale_factor=2, mode="nearest") + kept.pop())
        return x

    def forward(self, image: Float[torch.Tensor, "n 1 z y x"]) -> Float[torch.Tensor, "n s z y x"]:
        """Logits of every voxel; see `features`."""
        logits: torch.Tensor = self.head(self.features(image))
        return logits


def _with_coordinates(image: torch.Tensor) -> torch.Tensor:
    """Append z, y and x of every voxel, from -1 to 1 across the patch."""
    n, _, *edges = image.shape
    axes = [torch.linspace(-1, 1, edge, device=image.device) if edge > 1 else torch.zeros(1, device=image.device) for edge in edges]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).to(image.dtype)
    stacked = torch.cat([image, grid.expand(n, 3, *edges)], dim=1)
    return stacked.contiguous(memory_format=torch.channels_last_3d)
