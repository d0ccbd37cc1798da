"""A 3-D residual U-Net from densities to logits, with an exactly known influence radius.

Per level, finest first, a residual block of two 3x3x3 convolutions (zero padding), each with batch-norm and ReLU:

    image ─ block ───────────────────────── + ─ block ─ 1x1x1 ─ logits
              └ max-pool 2 ─ block ─ 1x1x1 ─┘ (each voxel repeated 2 x 2 x 2)

Levels are joined by a sum, not by concatenation: the joined map has half the channels, so the decoder costs half as much.  The normalisation is
batch-norm, not instance or group norm, so that an output voxel depends only on its surroundings and scoring in blocks is exact.  Batch-norm is
folded into the convolutions for inference (`learn.batch_norm_folding`).

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
from tomostream.learn.level_network import LevelNetwork, ResidualBlock

Interval = tuple[int, int]


def _widened(outputs: Interval, block: nn.Module) -> Interval:
    """Return the input voxels (first, last) on which a block's outputs (first, last) depend; a 3x3x3 convolution adds a voxel on each side."""
    reach = sum(layer.kernel_size[0] // 2 for layer in block.modules() if isinstance(layer, nn.Conv3d))
    return outputs[0] - reach, outputs[1] + reach


class ResidualUNet(LevelNetwork):
    """A 3-D residual U-Net from one density channel to one logit per species.

    Parameters
    ----------
    channels
        Channels of the levels, finest first; their number is the number of levels.
    species
        Number of species, which is the number of output channels.
    prior
        Expected fraction of particle voxels of each species, in (0, 1).  The final bias starts at its logit, so that training starts at the
        prior.  None: 0.5.
    seed
        Seed of the initial weights; the global random state is not changed.

    Raises
    ------
    InputError
        If there are no levels, or a number is out of range.
    """

    def __init__(self, channels: Sequence[int], species: int, *, prior: Sequence[float] | None = None, seed: int) -> None:
        super().__init__(channels, species)
        start = [0.5] * self.species if prior is None else list(prior)
        if len(start) != self.species or not all(0 < p < 1 for p in start):
            raise InputError(f"prior must be one fraction between 0 and 1 for each of the {self.species} species, found {start}")
        wide = self.channels
        with self.drawing(seed):
            self.encoders = nn.ModuleList(ResidualBlock(a, b, F.relu_) for a, b in itertools.pairwise((1, *wide)))
            self.narrows = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in itertools.pairwise(wide))
            self.decoders = nn.ModuleList(ResidualBlock(a, a, F.relu_) for a in wide[:-1])
            self.head = nn.Conv3d(wide[0], self.species, 1)
        self.start_head(0.03, [math.log(p / (1 - p)) for p in start])

    @property
    def influence_radius(self) -> int:
        """Largest distance along an axis at which an input voxel can change an output voxel, over all positions within a stride.

        If a block begins and ends at multiples of the stride, the zero padding beyond its faces reaches exactly as far as data there would.  So output
        voxels with this many voxels between them and the face are exact.
        """
        intervals = [(x, self._decoder_dependence(0, (x, x))) for x in range(self.stride)]
        return max(max(x - low, high - x) for x, (low, high) in intervals)

    def _encoder_dependence(self, level: int, outputs: Interval) -> Interval:
        """Return the input voxels on which the encoder's voxels `outputs` (first, last) of this level depend."""
        low, high = _widened(outputs, self.encoders[level])
        return (low, high) if level == 0 else self._encoder_dependence(level - 1, (2 * low, 2 * high + 1))  # max-pool

    def _decoder_dependence(self, level: int, outputs: Interval) -> Interval:
        """Return the input voxels on which the decoder's voxels `outputs` (first, last) of this level depend."""
        if level == len(self.channels) - 1:
            return self._encoder_dependence(level, outputs)
        low, high = _widened(outputs, self.decoders[level])
        same = self._encoder_dependence(level, (low, high))
        coarser = self._decoder_dependence(level + 1, (low // 2, high // 2))  # repeated voxels
        return min(same[0], coarser[0]), max(same[1], coarser[1])

    def features(self, image: Float[torch.Tensor, "n 1 z y x"]) -> Float[torch.Tensor, "n c z y x"]:
        """Return the feature maps of the finest decoder; see `LevelNetwork.features`."""
        self.check_edges(image.shape[2:], "volumes")
        x: torch.Tensor = self.encoders[0](image)
        kept = []
        for encoder in list(self.encoders)[1:]:
            kept.append(x)
            x = encoder(F.max_pool3d(x, 2))
        for level in reversed(range(len(kept))):
            x = F.interpolate(self.narrows[level](x), scale_factor=2, mode="nearest")
            x += kept.pop()
            x = self.decoders[level](x)
        return x
