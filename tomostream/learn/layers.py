"""Layers that several networks share."""

import torch
from torch import nn


class ConvNorm(nn.Module):
    """A 3x3x3 convolution with zero padding, then batch-norm; folding replaces `norm` by the identity."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
        self.norm: nn.Module = nn.BatchNorm3d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve and normalise."""
        result: torch.Tensor = self.norm(self.conv(x))
        return result
