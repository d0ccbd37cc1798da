"""A small 2-D single-shot detector: each cell of a coarse grid predicts whether a box is centred in it, and where.

Each level, finest first, has two 3x3 convolutions (zero padding), each with batch-norm and a leaky ReLU.  2x2 max-pooling connects the levels:

    slice ─ convolutions ─ pool ─ convolutions ─ pool ─ convolutions ─ 1x1 ─ per cell: objectness, centre y, centre x, and classes if there are several

1. A cell covers stride x stride pixels.  The centre of its box lies inside the cell, at the sigmoid of its two outputs.  The size of the box is that
   of the particle and is not predicted.
2. The confidence in a box of class s is P(object) P(s | object); with one class it is P(object).
3. Slices are independent of each other.  The layers are 3-D convolutions with kernels of one plane, so that crops, training, batch-norm and folding
   work as for the other networks.

Limits: one box per cell, so two particles whose centres lie in the same cell are detected as one.

References
----------
Redmon, Divvala, Girshick, Farhadi 2016, "You only look once" (YOLO); Redmon, Farhadi 2017, "YOLO9000"; Wagner et al. 2019, "SPHIRE-crYOLO is a
fast and accurate fully automated particle picker for cryo-EM", Communications Biology 2, 218.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32
from torch import nn
from torch.nn import functional as F

from tomostream.learn.layers import ConvNorm
from tomostream.learn.level_network import LevelNetwork

OBJECT, CENTRE_Y, CENTRE_X, CLASSES = 0, 1, 2, 3  # output channels of a cell; those of the classes begin at CLASSES
_SLOPE = 0.1  # slope of the leaky ReLU below zero, as in YOLO
_START = 0.01  # P(object) before training: nearly every cell is background
_REACH = 2  # pixels on each side that the two convolutions of a level see


class PlaneConvNorm(ConvNorm):
    """A 3x3 convolution of each plane with zero padding, then batch-norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.conv = nn.Conv3d(inputs, outputs, (1, 3, 3), padding=(0, 1, 1), bias=False)


class PlaneBlock(nn.Module):
    """Two convolutions of each plane, with leaky ReLUs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = PlaneConvNorm(inputs, outputs)
        self.second = PlaneConvNorm(outputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block; the spatial shape does not change."""
        result = F.leaky_relu(self.first(x), _SLOPE, inplace=True)
        return F.leaky_relu(self.second(result), _SLOPE, inplace=True)


class SliceDetector(LevelNetwork):
    """A single-shot detector of boxes of fixed size on the planes of a volume.

    Parameters
    ----------
    channels
        Channels of the levels, finest first; a cell's edge, in pixels, is the total stride.
    species
        Number of species, which is the number of classes.
    seed
        Seed of the initial weights; the global random state is not changed.

    Raises
    ------
    InputError
        If there are no levels, or a number is out of range.
    """

    def __init__(self, channels: Sequence[int], species: int, *, seed: int) -> None:
        super().__init__(channels, species)
        outputs = CLASSES + (self.species if self.species > 1 else 0)
        with self.drawing(seed, slope=_SLOPE):
            self.blocks = nn.ModuleList(PlaneBlock(a, b) for a, b in itertools.pairwise((1, *self.channels)))
            self.head = nn.Conv3d(self.channels[-1], outputs, 1)
        self.start_head(0.03, [math.log(_START / (1 - _START)) if output == OBJECT else 0.0 for output in range(outputs)])

    @property
    def reach(self) -> int:
        """Number of pixels beyond a cell, on each side, on which its outputs depend; with fewer pixels around it, the outputs would differ."""
        low, high = 0, 0
        for _ in self.channels[1:]:
            low, high = 2 * (low - _REACH), 2 * (high + _REACH) + 1
        return max(_REACH - low, high + _REACH - (self.stride - 1))

    def features(self, image: Float[torch.Tensor, "n 1 z y x"]) -> Float[torch.Tensor, "n c z v u"]:
        """Return the feature maps of the cells.

        The head turns them into logits of objectness, centre y and centre x, and one logit per class if there are several.
        """
        self.check_edges(image.shape[3:], "slices")
        x: torch.Tensor = self.blocks[0](image)
        for block in list(self.blocks)[1:]:
            x = block(F.max_pool3d(x, (1, 2, 2)))
        return x


def confidence_logits(numbers: Float32[torch.Tensor, "n c z v u"]) -> Float32[torch.Tensor, "n s z v u"]:
    """Return the logit of P(object) P(class | object) of each class, from the outputs of a detector.

    With p = P(object) P(class | object), log p is the sum of a log-sigmoid and a log-softmax, and the logit is log p - log(1 - p).
    """
    if numbers.shape[1] == CLASSES:
        return numbers[:, OBJECT : OBJECT + 1]
    log_p = F.logsigmoid(numbers[:, OBJECT : OBJECT + 1]) + F.log_softmax(numbers[:, CLASSES:], dim=1)
    # log(1 - p) = log(-expm1(log p)); clamped, so that the logit is finite even if p rounds to 1
    return log_p - torch.log((-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny))
