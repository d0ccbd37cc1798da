"""The base class of networks with levels, each half as fine as the one before, and their residual block.

A network computes feature maps for every voxel (`features`); its head, a 1x1x1 convolution, turns them into logits.  Its blocks are made
of `ConvNorm`, so that batch-norm can be folded for inference (`learn.batch_norm_folding`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import nn

from tomostream.errors import InputError
from tomostream.learn.layers import ConvNorm


class ResidualBlock(nn.Module):
    """activation(skip(x) + norm(conv(activation(norm(conv(x)))))), where the skip is a 1x1x1 convolution if the channels change.

    Parameters
    ----------
    inputs, outputs
        Channels.
    activation
        May work in place, since new memory costs more than the arithmetic.
    """

    def __init__(self, inputs: int, outputs: int, activation: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs)
        self.second = ConvNorm(outputs, outputs)
        self.skip: nn.Module = nn.Identity() if inputs == outputs else nn.Conv3d(inputs, outputs, 1)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block; the spatial shape stays the same."""
        result = self.second(self.activation(self.first(x)))
        result += self.skip(x)
        return self.activation(result)


class LevelNetwork(nn.Module, ABC):
    """The base class of networks.  A subclass makes its layers, `head` among them, inside `self.drawing(seed)`.

    Parameters
    ----------
    channels
        Channels of the levels, finest first; their number is the number of levels.
    species
        Number of species.

    Raises
    ------
    InputError
        If there is no level, or a number is out of range.
    """

    head: nn.Conv3d

    def __init__(self, channels: Sequence[int], species: int) -> None:
        super().__init__()
        self.channels = tuple(int(c) for c in channels)
        self.species = int(species)
        if not self.channels or min(self.channels) < 1:
            raise InputError(f"network.channels must be one or more positive integers, finest level first, found {list(channels)}")
        if self.species < 1:
            raise InputError(f"a network needs at least one species, found {species}")

    @contextmanager
    def drawing(self, seed: int, *, slope: float = 0.0) -> Iterator[None]:
        """Draw the weights of the layers made inside this context (He et al. 2015) from the seed alone; biases are zero.

        Parameters
        ----------
        seed
            Of the weights; the global random state does not change.
        slope
            Of the activation below zero.
        """
        with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made; these are replaced below
            yield
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, a=slope, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def start_head(self, scale: float, bias: Sequence[float] | None = None) -> None:
        """Make the initial logits close to `bias` (one number per output; None: zero) for any image, by scaling the head's weights."""
        with torch.no_grad():
            self.head.weight.mul_(scale)
            if bias is not None:
                self.head.bias = nn.Parameter(torch.tensor(bias, dtype=self.head.weight.dtype))

    @property
    def stride(self) -> int:
        """Total stride: input edges must be multiples of it."""
        return int(2 ** (len(self.channels) - 1))

    @property
    def parameters_count(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.parameters())

    def check_edges(self, edges: Sequence[int], what: str) -> None:
        """Check that edges are multiples of the stride.

        Parameters
        ----------
        edges
            Of the image, along the axes that the network halves.
        what
            What has these edges, for the message.

        Raises
        ------
        InputError
            If one is not.
        """
        if any(edge % self.stride for edge in edges):
            raise InputError(
                f"the network takes {what} whose edges are multiples of its stride {self.stride} ({len(self.channels)} levels), "
                f"found {tuple(edges)} (in the order z, y, x); extend the volume at its far ends"
            )

    @abstractmethod
    def features(self, image: Float[torch.Tensor, "n 1 z y x"]) -> Float[torch.Tensor, "n c Z Y X"]:
        """Return the feature maps that the head turns into logits.

        Raises
        ------
        InputError
            If an edge is not a multiple of the total stride.
        """

    def forward(self, image: Float[torch.Tensor, "n 1 z y x"]) -> Float[torch.Tensor, "n s Z Y X"]:
        """Return the logits; see `features`."""
        logits: torch.Tensor = self.head(self.features(image))
        return logits
