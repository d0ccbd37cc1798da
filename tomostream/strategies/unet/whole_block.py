"""How does a residual U-Net run over a block where memory is plenty, as on a GPU?  Whole, in as few and large tiles as fit.

The stream of planes (`streaming.py`) saves memory by many small steps; a GPU has the memory, and wants few large ones.

1. A block that is larger than a tile is halved across the longest edge of what is kept, until each part, with the network's influence radius
   around it (aligned to the stride, clipped to the block), is a tile at most.
2. A tile goes through the network at once, channels last: one convolution after the other, sums and ReLU in place.  A coarser level's
   answer is added to the finer level's map in place, each voxel to its 2 x 2 x 2, so that no enlarged map is made.
3. In bf16 a convolution, its bias, what is added and the ReLU are one operation of cuDNN, which rounds once instead of three times.
4. The last layer is float32, some planes at a time.

A tile's voxels are bounded by the memory, and by 2^31 numbers in a feature map: beyond them the convolutions of GPUs take a slow path.

Limits: made for `ResidualUNet` with batch-norm folded; the same sums as the stream's, in other shapes, so logits agree to rounding.
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

SMALLEST_PART_VOX = 16
_EIGHT = 8
_DIGITS = 3
_INDEXED = 2**31 - 1  # numbers of a feature map
_LIVE_MAPS = 5  # of the finest level at the peak: input, first and second convolution of the last block, scratch of a convolution
_HEAD_VOXELS = 2**24  # that are made float32 at a time
_FIXED_BYTES = 350_000_000  # weights, code and scratch of the kernels' libraries: measured on an H200, 310 MB


@dataclass(frozen=True, slots=True)
class Tile:
    """What the network gets at once, and the part of it whose logits are kept; voxels from the block's first one."""

    read: Box
    part: Box


def tiles(block: Triple, keep: Box, *, radius: int, stride: int, most_voxels: int) -> Iterator[Tile]:
    """The tiles of a block, in order.

    Parameters
    ----------
    block
        Edges, multiples of the stride.
    keep
        The part of the block whose logits are wanted.
    radius, stride
        Of the network.
    most_voxels
        Of a tile; one that keeps `SMALLEST_PART_VOX` along each axis, or less, may be larger: smaller ones would be nearly all halo.
    """
    read = keep.expanded(radius).aligned(stride).clipped(Box.whole(block))
    if read.size <= most_voxels or max(keep.shape) <= SMALLEST_PART_VOX:
        yield Tile(read, keep)
        return
    for half in halves(keep):
        yield from tiles(block, half, radius=radius, stride=stride, most_voxels=most_voxels)


def tile_bytes(voxels: int, channels: tuple[int, ...], *, species: int, itemsize: int) -> int:
    """Projected peak on the device of a tile of so many voxels."""
    maps = _LIVE_MAPS * itemsize * channels[0] * voxels
    head = min(voxels, _HEAD_VOXELS) * 4 * (channels[0] + species)
    return _FIXED_BYTES + maps + (4 + 4 * species) * voxels + head


def largest_tile(memory: int, channels: tuple[int, ...], *, species: int, itemsize: int) -> int:
    """Most voxels of a tile for so many bytes of the device; at least 1.

    Rounded down to its first three binary digits: cards of nearly the same memory, or a budget that is changed a little, give the same tiles.
    """
    fits = int(_INDEXED / max(wide / 8**level for level, wide in enumerate(channels)))
    at_head = tile_bytes(_HEAD_VOXELS, channels, species=species, itemsize=itemsize)
    one_more = tile_bytes(_HEAD_VOXELS + 1, channels, species=species, itemsize=itemsize) - at_head
    if memory >= at_head:  # the last layer's piece has its full size
        fits = min(fits, _HEAD_VOXELS + (memory - at_head) // one_more)
    else:
        fits = min(fits, max(0, memory - _FIXED_BYTES) * _HEAD_VOXELS // (at_head - _FIXED_BYTES))
    step = 1 << max(0, fits.bit_length() - _DIGITS)
    return max(1, fits // step * step)


def whole_logits(
    network: ResidualUNet, head: nn.Module, image: torch.Tensor, *, is_joined: bool = False
) -> Float32[torch.Tensor, "s z y x"]:
    """Logits of an image (1, 1, z, y, x) in the network's type and on its device; edges are multiples of the stride.

    Parameters
    ----------
    network
        Deployed (batch-norm folded); its weights are channels last.
    head
        The last layer in float32: logits keep their digits even where the feature maps are bf16.
    image
        In the network's type, on its device.
    is_joined
        Whether cuDNN's joined operations are used: see `can_be_joined`.
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
    """Whether the joined operations are used: on a GPU, in bf16, for channels in eights, as its matrix units take them."""
    weights = next(network.parameters())
    return weights.is_cuda and weights.dtype == torch.bfloat16 and not any(wide % _EIGHT for wide in network.channels)


def _through_level(
    image: torch.Tensor, network: ResidualUNet, level: int, apply: Callable[[torch.Tensor, nn.Module], torch.Tensor]
) -> torch.Tensor:
    """Apply the network from this level down to the coarsest and up again."""
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
    """The same by cuDNN's joined operations."""
    if not isinstance(block, ResidualBlock):
        raise TypeError(f"a residual block is needed, found {type(block).__name__}")
    first, second = block.first.conv, block.second.conv
    once = [1, 1, 1]  # stride, padding and dilation
    inner = torch.cudnn_convolution_relu(image, first.weight, first.bias, once, once, once, 1)
    result: torch.Tensor = torch.cudnn_convolution_add_relu(inner, second.weight, block.skip(image), 1.0, second.bias, once, once, once, 1)
    return result


def _halved(maps: torch.Tensor) -> torch.Tensor:
    """Max-pool 2 x 2 x 2, axis by axis, which keeps the channels last."""
    maps = torch.maximum(maps[:, :, 0::2], maps[:, :, 1::2])
    maps = torch.maximum(maps[:, :, :, 0::2], maps[:, :, :, 1::2])
    return torch.maximum(maps[..., 0::2], maps[..., 1::2])


def _add_enlarged(maps: torch.Tensor, coarse: torch.Tensor) -> None:
    """Add each voxel of the coarser level to its 2 x 2 x 2 voxels, in place."""
    for dz, dy, dx in itertools.product(range(2), repeat=3):
        maps[:, :, dz::2, dy::2, dx::2] += coarse


class WholeBlocks:
    """A deployed network that runs over blocks in tiles.

    Parameters
    ----------
    network
        Deployed, in the type and on the device that are computed with, its weights channels last.
    head
        The last layer, float32, on the same device.
    radius
        The network's influence radius, voxels.
    most_voxels
        Of a tile: see `largest_tile`.
    """

    def __init__(self, network: ResidualUNet, head: nn.Module, *, radius: int, most_voxels: int) -> None:
        self._network, self._head = network, head
        self._radius, self._most = radius, most_voxels
        self._is_joined = can_be_joined(network)
        weights = next(network.parameters())
        self._device, self._type = weights.device, weights.dtype

    def logits(self, block: Float32[np.ndarray, "z y x"], keep: Box) -> Float32[np.ndarray, "s Z Y X"]:
        """Logits of a part of a block.

        Parameters
        ----------
        block
            Standardised densities; its edges are multiples of the stride.
        keep
            The part.
        """
        result = np.empty((self._network.species, *keep.shape), dtype=np.float32)
        for tile in self.tiles(triple(block.shape), keep):
            image = torch.from_numpy(block[tile.read.slices]).to(self._device)
            torch.from_numpy(result[(slice(None), *tile.part.relative_to(keep.start).slices)]).copy_(self._of_tile(image, tile))
        return result

    def device_logits(self, block: Float32[torch.Tensor, "z y x"], keep: Box) -> Float32[torch.Tensor, "s Z Y X"]:
        """The same of a block that lies on the device; the logits stay there."""
        result = torch.empty((self._network.species, *keep.shape), dtype=torch.float32, device=self._device)
        for tile in self.tiles(triple(block.shape), keep):
            result[(slice(None), *tile.part.relative_to(keep.start).slices)] = self._of_tile(block[tile.read.slices], tile)
        return result

    def _of_tile(self, image: torch.Tensor, tile: Tile) -> torch.Tensor:
        found = whole_logits(self._network, self._head, image[None, None].to(self._type), is_joined=self._is_joined)
        return found[(slice(None), *tile.part.relative_to(tile.read.start).slices)]

    def tiles(self, block: Triple, keep: Box) -> Iterator[Tile]:
        """The tiles of a block."""
        return tiles(block, keep, radius=self._radius, stride=self._network.stride, most_voxels=self._most)
