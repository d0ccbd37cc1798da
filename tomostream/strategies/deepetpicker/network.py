"""The network of DeepETPicker: a residual 3-D U-Net with coordinate channels and an image pyramid.

It follows the description in the paper.  The differences from `ResidualUNet` are

- coordinate channels: the input has, beside the density, z, y and x of each voxel, from -1 to 1 across the patch;
- an image pyramid: every coarser level of the encoder also gets the density, averaged over 2, 4, ... voxels;
- ELU instead of ReLU.

    density, z, y, x ─ block ──────────────────────────── + ─ block ─ 1x1x1 ─ logits
                         └ max-pool 2 ─ + ─ block ─ 1x1x1 ─┘ (each voxel repeated 2 x 2 x 2)
    density averaged over 2 ─ 1x1x1 ────┘

Levels are joined by sums.  Batch-norm follows every 3x3x3 convolution and is folded for inference (`learn.batch_norm_folding`).

Limits: a logit depends on the position in the patch, so volumes must be scored in fixed patches (`strategies.patches`); input edges must be multiples
of the total stride, 2^(levels - 1).

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

from tomostream.learn.level_network import LevelNetwork, ResidualBlock

_INPUTS = 4  # density and three coordinates


class CoordinateUNet(LevelNetwork):
    """A 3-D residual U-Net with coordinate channels and an image pyramid, one logit per species.

    Parameters
    ----------
    channels
        Channels of the levels, finest first; their number is the number of levels.
    species
        Number of species, which is the number of output channels.
    seed
        Seed of the initial weights; the global random state is not changed.

    Raises
    ------
    InputError
        If there are no levels, or a number is out of range.
    """

    def __init__(self, channels: Sequence[int], species: int, *, seed: int) -> None:
        super().__init__(channels, species)
        wide = self.channels
        with self.drawing(seed):
            self.encoders = nn.ModuleList(ResidualBlock(a, b, F.elu) for a, b in itertools.pairwise((_INPUTS, *wide)))
            self.pyramid = nn.ModuleList(nn.Conv3d(1, c, 1) for c in wide[:-1])  # added to the pooled maps of the finer level
            self.narrows = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in itertools.pairwise(wide))
            self.decoders = nn.ModuleList(ResidualBlock(a, a, F.elu) for a in wide[:-1])
            self.head = nn.Conv3d(wide[0], self.species, 1)
        self.start_head(0.1)  # first scores near 0.5, where the gradient of the Dice loss is largest

    def features(self, image: Float[torch.Tensor, "n 1 z y x"]) -> Float[torch.Tensor, "n c z y x"]:
        """Return the feature maps of the finest decoder; see `LevelNetwork.features`."""
        self.check_edges(image.shape[2:], "patches")
        x: torch.Tensor = self.encoders[0](_with_coordinates(image))
        kept = []
        density = image.float()  # average pooling does not support bf16
        for encoder, join in zip(list(self.encoders)[1:], self.pyramid, strict=True):
            kept.append(x)
            density = F.avg_pool3d(density, 2)
            x = encoder(F.max_pool3d(x, 2) + join(density.to(image.dtype)))
        for narrow, decoder in zip(reversed(self.narrows), reversed(self.decoders), strict=True):
            x = decoder(F.interpolate(narrow(x), scale_factor=2, mode="nearest") + kept.pop())
        return x


def _with_coordinates(image: torch.Tensor) -> torch.Tensor:
    """Append z, y and x of every voxel, from -1 to 1 across the patch."""
    n, _, *edges = image.shape
    axes = [torch.linspace(-1, 1, edge, device=image.device) if edge > 1 else torch.zeros(1, device=image.device) for edge in edges]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).to(image.dtype)
    stacked = torch.cat([image, grid.expand(n, 3, *edges)], dim=1)
    return stacked.contiguous(memory_format=torch.channels_last_3d)
