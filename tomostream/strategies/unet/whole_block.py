"""Run a residual U-Net over a block on a GPU, in as few and as large tiles as the memory allows.

Streaming planes (`streaming.py`) saves memory with many small steps; a GPU has the memory, and is faster with few large steps.

1. The box to keep is halved along its longest edge until each part, with the influence radius around it (aligned to the stride, clipped to the
   block), is no larger than a tile.
2. A tile goes through the network at once, channels last; sums and ReLU work in place.  The result of a coarser level is added in place to the finer
   level's map, each voxel to its 2 x 2 x 2, so that no enlarged map is needed.
3. In bf16, cuDNN computes a convolution, its bias, the sum with the skip path and the ReLU in one operation, which rounds once instead of three times.
4. The last layer is float32, a few planes at a time.

The size of a tile is limited by the memory, and by 2^31 numbers in a feature map, beyond which GPU convolutions become slow.

Limits: works for `ResidualUNet` with batch-norm folded.  The sums are those of the stream, in arrays of other shapes, so logits agree to rounding.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn
from torch.nn import functional as F

from tomostream.geometry import Box, Triple, halves, triple
from tomostream.learn.level_network import ResidualBlock
from tomostream.strategies.unet.network import ResidualUNet

SMALLEST_PART_VOX = 16  # longest edge of a part that is never halved
_EIGHT = 8  # channels must be multiples of this for the matrix units of a GPU
_DIGITS = 3  # binary digits that the size of a tile keeps
_INDEXED = 2**31 - 1  # most numbers of a feature map
_LIVE_MAPS = 5  # of the finest level at the peak: input, first and second convolution of the last block, scratch of a convolution
_HEAD_VOXELS = 2**24  # voxels whose features are converted to float32 at once
_FIXED_BYTES = 350_000_000  # weights, and code and scratch memory of the kernel libraries; just above the measured amount


@dataclass(frozen=True, slots=True)
class Tile:
    """The box that goes through the network at once, and the part of it whose logits are kept; in voxels from the block's first voxel."""

    read: Box
    part: Box


def tiles(block: Triple, keep: Box, *, radius: int, stride: int, most_voxels: int) -> Iterator[Tile]:
    """Yield the tiles of a block, in order.

    Parameters
    ----------
    block
        Edges of the block, multiples of the stride.
    keep
        The part of the block whose logits are wanted.
    radius, stride
        Influence radius and total stride of the network, in voxels.
    most_voxels
        Most voxels of a tile.  A tile that keeps at most `SMALLEST_PART_VOX` along each axis may be larger; smaller tiles would be nearly all halo.
    """
    read = keep.expanded(radius).aligned(stride).clipped(Box.whole(block))
    if read.size <= most_voxels or max(keep.shape) <= SMALLEST_PART_VOX:
        yield Tile(read, keep)
        return
    for half in halves(keep):
        yield from tiles(block, half, radius=radius, stride=stride, most_voxels=most_voxels)


def tile_bytes(voxels: int, channels: tuple[int, ...], *, species: int, itemsize: int) -> int:
    """Return the projected peak memory on the device of a tile, in bytes."""
    maps = _LIVE_MAPS * itemsize * channels[0] * voxels
    head = min(voxels, _HEAD_VOXELS) * 4 * (channels[0] + species)
    return _FIXED_BYTES + maps + (4 + 4 * species) * voxels + head


def largest_tile(memory: int, channels: tuple[int, ...], *, species: int, itemsize: int) -> int:
    """Return the most voxels of a tile that fit into `memory` bytes of the device; at least 1.

    The result is rounded down to three binary digits, so that similar cards and slightly different budgets give the same tiles.
    """
    fits = int(_INDEXED / max(wide / 8**level for level, wide in enumerate(channels)))
    at_head = tile_bytes(_HEAD_VOXELS, channels, species=species, itemsize=itemsize)
    one_more = tile_bytes(_HEAD_VOXELS + 1, channels, species=species, itemsize=itemsize) - at_head
    if memory >= at_head:  # the last layer works on pieces of its full size
        fits = min(fits, _HEAD_VOXELS + (memory - at_head) // one_more)
    else:
        fits = min(fits, max(0, memory - _FIXED_BYTES) * _HEAD_VOXELS // (at_head - _FIXED_BYTES))
    step = 1 << max(0, fits.bit_length() - _DIGITS)
    return max(1, fits // step * step)


def whole_logits(
    network: ResidualUNet, head: nn.Module, image: torch.Tensor, *, is_joined: bool = False
) -> Float32[torch.Tensor, "s z y x"]:
    """Return the logits of an image.

    Parameters
    ----------
    network
        Network with batch-norm folded and weights channels last.
    head
        The last layer in float32, which keeps the logits precise even if the feature maps are bf16.
    image
        Shape (1, 1, z, y, x), in the network's type and on its device; the edges are multiples of the stride.
    is_joined
        Whether to use cuDNN's fused operations; see `can_be_joined`.
    """
    features = _through_level(
        image.contiguous(memory_format=torch.channels_last_3d), network, 0, _joined_block if is_joined else _through_block
    )
    depth, height, width = image.shape[2:]
    logits = torch.empty((network.species, depth, height, width), dtype=torch.float32, device=image.device)
    planes = max(1, _HEAD_VOXELS // (height * width))
    for first in range(0, depth, planes):
        logits[:, first : first + planes] = head(features[:, :, first : first + planes].float())[0]
    return logits


def can_be_joined(network: ResidualUNet) -> bool:
    """Whether cuDNN's fused operations can be used: on a GPU, in bf16, with channels in multiples of eight, as its matrix units need."""
    weights = next(network.parameters())
    return weights.is_cuda and weights.dtype == torch.bfloat16 and not any(wide % _EIGHT for wide in network.channels)


def _through_level(
    image: torch.Tensor, network: ResidualUNet, level: int, apply: Callable[[torch.Tensor, nn.Module], torch.Tensor]
) -> torch.Tensor:
    """Apply the network from this level down to the coarsest level and back up."""
    encoded = apply(image, network.encoders[level])
    del image
    if level == len(network.channels) - 1:
        return encoded
    coarser = _through_level(_halved(encoded), network, level + 1, apply)
    narrow = network.narrows[level](coarser)
    del coarser
    _add_enlarged(encoded, narrow)
    del narrow
    return apply(encoded, network.decoders[level])


def _through_block(image: torch.Tensor, block: nn.Module) -> torch.Tensor:
    """Apply a residual block whose batch-norm is folded."""
    if not isinstance(block, ResidualBlock):
        raise TypeError(f"a residual block is needed, found {type(block).__name__}")
    inner = F.relu_(block.first(image))
    result: torch.Tensor = block.second(inner)
    del inner
    result += block.skip(image)
    return F.relu_(result)


def _joined_block(image: torch.Tensor, block: nn.Module) -> torch.Tensor:
    """Apply a residual block whose batch-norm is folded, with cuDNN's fused operations."""
    if not isinstance(block, ResidualBlock):
        raise TypeError(f"a residual block is needed, found {type(block).__name__}")
    first, second = block.first.conv, block.second.conv
    once = [1, 1, 1]  # stride, padding and dilation
    inner = torch.cudnn_convolution_relu(image, first.weight, first.bias, once, once, once, 1)
    result: torch.Tensor = torch.cudnn_convolution_add_relu(inner, second.weight, block.skip(image), 1.0, second.bias, once, once, once, 1)
    return result


def _halved(maps: torch.Tensor) -> torch.Tensor:
    """Max-pool 2 x 2 x 2, axis by axis, which keeps the channels-last layout."""
    maps = torch.maximum(maps[:, :, 0::2], maps[:, :, 1::2])
    maps = torch.maximum(maps[:, :, :, 0::2], maps[:, :, :, 1::2])
    return torch.maximum(maps[..., 0::2], maps[..., 1::2])


def _add_enlarged(maps: torch.Tensor, coarse: torch.Tensor) -> None:
    """Add each voxel of the coarser level to its 2 x 2 x 2 voxels, in place."""
    for dz, dy, dx in itertools.product(range(2), repeat=3):
        maps[:, :, dz::2, dy::2, dx::2] += coarse


class WholeBlocks:
    """A network with batch-norm folded that runs over blocks in tiles.

    Parameters
    ----------
    network
        The network on the device, in the type to compute with, weights channels last.
    head
        The last layer, float32, on the same device.
    radius
        The network's influence radius, in voxels.
    most_voxels
        Most voxels of a tile; see `largest_tile`.
    """

    def __init__(self, network: ResidualUNet, head: nn.Module, *, radius: int, most_voxels: int) -> None:
        self._network, self._head = network, head
        self._radius, self._most = radius, most_voxels
        self._is_joined = can_be_joined(network)
        weights = next(network.parameters())
        self._device, self._type = weights.device, weights.dtype

    def logits(self, block: Float32[np.ndarray, "z y x"], keep: Box) -> Float32[np.ndarray, "s Z Y X"]:
        """Return the logits of a part of a block.

        Parameters
        ----------
        block
            Standardised densities; the edges are multiples of the stride.
        keep
            The part, in voxels from the block's first voxel.
        """
        result = np.empty((self._network.species, *keep.shape), dtype=np.float32)
        for tile in self.tiles(triple(block.shape), keep):
            image = torch.from_numpy(block[tile.read.slices]).to(self._device)
            torch.from_numpy(result[(slice(None), *tile.part.relative_to(keep.start).slices)]).copy_(self._of_tile(image, tile))
        return result

    def device_logits(self, block: Float32[torch.Tensor, "z y x"], keep: Box) -> Float32[torch.Tensor, "s Z Y X"]:
        """Return, on the device, the logits of a part of a block that lies on the device; see `logits`."""
        result = torch.empty((self._network.species, *keep.shape), dtype=torch.float32, device=self._device)
        for tile in self.tiles(triple(block.shape), keep):
            result[(slice(None), *tile.part.relative_to(keep.start).slices)] = self._of_tile(block[tile.read.slices], tile)
        return result

    def _of_tile(self, image: torch.Tensor, tile: Tile) -> torch.Tensor:
        found = whole_logits(self._network, self._head, image[None, None].to(self._type), is_joined=self._is_joined)
        return found[(slice(None), *tile.part.relative_to(tile.read.start).slices)]

    def tiles(self, block: Triple, keep: Box) -> Iterator[Tile]:
        """Yield the tiles of a block of these edges; see `tiles` of this module."""
        return tiles(block, keep, radius=self._radius, stride=self._network.stride, most_voxels=self._most)
