"""A small 2-D single-shot detector: every cell of a coarse grid says whether a box is centred in it, and where.

Per level, finest first, two 3x3 convolutions (zero padding), each with batch-norm and a leaky ReLU; levels are joined by 2x2 max-pooling:

    slice ─ convolutions ─ pool ─ convolutions ─ pool ─ convolutions ─ 1x1 ─ per cell: objectness, centre y, centre x, and classes if there are several

1. A cell covers stride x stride pixels.  The centre of its box lies inside the cell, at the sigmoid of its two numbers; the box's size is
   the particle's and not predicted.
2. The confidence in a box of class s is P(object) P(s | object); with one class it is P(object).
3. Slices never see each other: the layers are 3-D convolutions with kernels of one plane, so that crops, training, batch-norm and folding
   are those of the other networks.

Limits: one box per cell; two particles whose centres fall into one cell are one.

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

from tomostream.errors import InputError
from tomostream.learn.layers import ConvNorm

OBJECT, CENTRE_Y, CENTRE_X, CLASSES = 0, 1, 2, 3  # channels of a cell; the classes' own begin at CLASSES
_SLOPE = 0.1  # of the leaky ReLU below zero, as in YOLO
_START = 0.01  # objectness before training: nearly every cell is background
_REACH = 2  # pixels that the two convolutions of a level look to each side


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
        """Apply the block; the spatial shape stays."""
        result = F.leaky_relu(self.first(x), _SLOPE, inplace=True)
        return F.leaky_relu(self.second(result), _SLOPE, inplace=True)


class SliceDetector(nn.Module):
    """A single-shot detector of boxes of fixed size on the planes of a volume.

    Parameters
    ----------
    channels
        Channels of the levels, finest first; the total stride is 2^(levels - 1).
    species
        Number of species, that is of classes.
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
            raise InputError(f"a detector needs at least one species, found {species}")
        with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made; these are replaced below
            self.blocks = nn.ModuleList(PlaneBlock(a, b) for a, b in itertools.pairwise((1, *self.channels)))
            self.head = nn.Conv3d(self.channels[-1], CLASSES + (self.species if self.species > 1 else 0), 1)
        self._initialise(seed)

    def _initialise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE, generator=generator)
        with torch.no_grad():
            self.head.weight.mul_(0.03)  # first confidences near the start value, whatever the image
            bias = torch.zeros(self.head.out_channels)
            bias[OBJECT] = math.log(_START / (1 - _START))
            self.head.bias.copy_(bias)  # type: ignore[union-attr]  # the head has a bias

    @property
    def stride(self) -> int:
        """Edge of a cell in pixels: a slice's edges must be multiples of it."""
        return int(2 ** (len(self.channels) - 1))

    @property
    def parameters_count(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.parameters())

    @property
    def reach(self) -> int:
        """Pixels beyond a cell, to each side, on which its numbers depend; with no more, a cut-off slice gives other numbers there."""
        low, high = 0, 0
        for _ in self.channels[1:]:
            low, high = 2 * (low - _REACH), 2 * (high + _REACH) + 1
        return max(_REACH - low, high + _REACH - (self.stride - 1))

    def forward(self, image: Float[torch.Tensor, "n 1 z y x"]) -> Float[torch.Tensor, "n c z v u"]:
        """Return the numbers of every cell: objectness, centre y, centre x (logits), and one logit per class if there are several.

        Raises
        ------
        InputError
            If an edge of the slices is no multiple of the stride.
        """
        if any(edge % self.stride for edge in image.shape[3:]):
            raise InputError(
                f"the detector takes slices whose edges are multiples of its stride {self.stride} ({len(self.channels)} levels), "
                f"found {tuple(image.shape[3:])} (y, x); extend the slices at their far ends"
            )
        x = self.blocks[0](image)
        for block in list(self.blocks)[1:]:
            x = block(F.max_pool3d(x, (1, 2, 2)))
        numbers: torch.Tensor = self.head(x)
        return numbers


def confidence_logits(numbers: Float32[torch.Tensor, "n c z v u"]) -> Float32[torch.Tensor, "n s z v u"]:
    """Logits of P(object) P(class | object) of each class, from a detector's numbers.

    With p = P(object) P(class | object), log p is a sum of log-sigmoid and log-softmax, and the logit is log p - log(1 - p).
    """
    if numbers.shape[1] == CLASSES:
        return numbers[:, OBJECT : OBJECT + 1]
    log_p = F.logsigmoid(numbers[:, OBJECT : OBJECT + 1]) + F.log_softmax(numbers[:, CLASSES:], dim=1)
    # log(1 - p) = log(-expm1(log p)); where p rounds to 1 the logit is finite all the same
    return log_p - torch.log((-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny))
