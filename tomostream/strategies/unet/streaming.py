"""Run a residual U-Net over a block in little memory, by streaming planes along z through the layers.

A plain forward pass holds several feature maps of the finest level, each as large as the block times the number of channels.  But a 3x3x3
convolution needs only three planes of its input for one plane of its output.  So each layer takes slabs of planes from the layer before, and passes
slabs of planes on as soon as it can:

    image ─ block ─ queue ──────────────────── + ─ block ─ head ─ logits
              └ max-pool 2 ─ block ─ 1x1x1 ─ x2 ┘

1. A convolution keeps the last two planes of its input.  Its zero padding is a zero plane before the first plane and one after the last.
2. Max-pooling keeps an odd plane until its partner arrives.
3. Planes on a skip path wait in a queue until the result of the coarser levels arrives: 4 planes and a slab for 2 levels, 16 for 3.

The memory is therefore that of some tens of planes, however deep the block is.  No voxel is computed twice.  The sums are those of a plain forward
pass; only the array shapes that the convolution kernels see differ, so logits agree to rounding.

Limits: works for `ResidualUNet` with batch-norm folded (`learn.batch_norm_folding.deployed`), one block at a time.
"""

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

from tomostream.learn.level_network import ResidualBlock
from tomostream.learn.precision import onednn_takes
from tomostream.strategies.unet.network import ResidualUNet

Slabs = Iterator[torch.Tensor]  # each (1, channels, some planes, y, x)
DEPTH = 2  # dimension of the planes


class _Stream:
    """Iterate over slabs passed through `step`, followed by the result of `end`.  Either may return None when there is no output yet.

    This is not a generator, because a suspended generator keeps its last slab alive, and there are dozens of layers.
    """

    def __init__(
        self, slabs: Slabs, step: Callable[[torch.Tensor], torch.Tensor | None], end: Callable[[], torch.Tensor | None] = lambda: None
    ) -> None:
        self._slabs = slabs
        self._step = step
        self._end = end
        self._has_ended = False

    def __iter__(self) -> "_Stream":
        return self

    def __next__(self) -> torch.Tensor:
        while not self._has_ended:
            try:
                result = self._step(next(self._slabs))  # the slab has no name here, so that the step can free it early
            except StopIteration:
                self._has_ended = True
                result = self._end()
            if result is not None:
                return result
        raise StopIteration


class _Queue:
    """A first-in, first-out queue of planes that wait for a slower branch of the network."""

    def __init__(self) -> None:
        self._waiting: deque[torch.Tensor] = deque()

    def watch(self, slab: torch.Tensor) -> torch.Tensor:
        """Append a slab to the queue and return it unchanged."""
        self._waiting.append(slab)
        return slab

    def add_to(self, total: torch.Tensor, layer: nn.Module | None) -> None:
        """Remove as many planes from the queue as `total` has, apply `layer` if there is one, and add them to `total` in place."""
        done = 0
        while done < total.shape[DEPTH]:
            slab = self._waiting.popleft()
            part = slab[:, :, : total.shape[DEPTH] - done]
            if part.shape[DEPTH] < slab.shape[DEPTH]:
                self._waiting.appendleft(slab[:, :, part.shape[DEPTH] :])
            total[:, :, done : done + part.shape[DEPTH]] += part if layer is None else _convolve(part, layer)
            done += part.shape[DEPTH]


class _Convolution:
    """A 3x3x3 convolution with zero padding.  The first slab gives one plane less than it has; that plane comes at the end."""

    def __init__(self, conv: nn.Conv3d) -> None:
        self._conv = conv
        self._last: torch.Tensor | None = None  # the last two planes of the input

    def step(self, slab: torch.Tensor) -> torch.Tensor | None:
        window = torch.cat([_zero_plane(slab) if self._last is None else self._last, slab], dim=DEPTH)
        del slab
        self._last = _copy(window[:, :, -2:])
        return _convolve(window, self._conv) if window.shape[DEPTH] > 2 else None

    def end(self) -> torch.Tensor | None:
        if self._last is None:
            return None
        window = torch.cat([self._last, _zero_plane(self._last)], dim=DEPTH)
        self._last = None
        return _convolve(window, self._conv)


class _Pooling:
    """Max-pooling 2 x 2 x 2."""

    def __init__(self) -> None:
        self._odd: torch.Tensor | None = None

    def step(self, slab: torch.Tensor) -> torch.Tensor | None:
        whole = slab if self._odd is None else torch.cat([self._odd, slab], dim=DEPTH)
        even = whole.shape[DEPTH] // 2 * 2
        self._odd = _copy(whole[:, :, even:]) if even < whole.shape[DEPTH] else None
        return _halved(whole[:, :, :even]) if even else None


def _copy(planes: torch.Tensor) -> torch.Tensor:
    """Copy planes, so that the slab of which they are a view can be freed."""
    return planes.clone(memory_format=torch.channels_last_3d)


def _zero_plane(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like[:, :, :1], memory_format=torch.channels_last_3d)


def _convolve(planes: torch.Tensor, conv: nn.Module) -> torch.Tensor:
    """Convolve with zero padding along y and x and none along z.

    On a processor, oneDNN is called explicitly: `conv3d` decides whether to use it for float32 by a rule made for images, and falls back to a much
    slower loop on thin slabs.  On one without AVX-512 oneDNN refuses bf16; there the products are taken in float32, and the result is rounded.
    """
    if not isinstance(conv, nn.Conv3d):
        raise TypeError(f"a 3-D convolution is needed, found {type(conv).__name__}")
    padding = [0, conv.kernel_size[1] // 2, conv.kernel_size[2] // 2]
    if planes.device.type != "cpu" or not onednn_takes(torch.float32):
        return F.conv3d(planes, conv.weight, conv.bias, padding=padding)
    if onednn_takes(planes.dtype):
        return torch.mkldnn_convolution(planes, conv.weight, conv.bias, padding, [1, 1, 1], [1, 1, 1], 1)
    bias = None if conv.bias is None else conv.bias.float()
    return torch.mkldnn_convolution(planes.float(), conv.weight.float(), bias, padding, [1, 1, 1], [1, 1, 1], 1).to(planes.dtype)


def _halved(planes: torch.Tensor) -> torch.Tensor:
    """Max-pool 2 x 2 x 2, axis by axis; faster than `max_pool3d`, which also computes the positions of the maxima."""
    planes = torch.maximum(planes[:, :, 0::2], planes[:, :, 1::2])
    planes = torch.maximum(planes[:, :, :, 0::2], planes[:, :, :, 1::2])
    return torch.maximum(planes[..., 0::2], planes[..., 1::2])


def _through_block(slabs: Slabs, block: nn.Module) -> Slabs:
    """Apply a residual block whose batch-norm is folded."""
    if not isinstance(block, ResidualBlock):
        raise TypeError(f"a residual block is needed, found {type(block).__name__}")
    if not (isinstance(block.first.norm, nn.Identity) and isinstance(block.second.norm, nn.Identity)):
        raise TypeError("batch-norm must be folded into the convolutions first (learn.batch_norm_folding.deployed)")
    skip = None if isinstance(block.skip, nn.Identity) else block.skip
    skipped = _Queue()

    def joined(slab: torch.Tensor) -> torch.Tensor:
        skipped.add_to(slab, skip)
        return F.relu_(slab)

    first, second = _Convolution(block.first.conv), _Convolution(block.second.conv)
    inner = _Stream(_Stream(_Stream(slabs, skipped.watch), first.step, first.end), F.relu_)
    return _Stream(_Stream(inner, second.step, second.end), joined)


def _through_level(slabs: Slabs, network: ResidualUNet, level: int) -> Slabs:
    """Apply the network from this level down to the coarsest level and back up."""
    encoded = _through_block(slabs, network.encoders[level])
    if level == len(network.channels) - 1:
        return encoded
    kept = _Queue()
    coarser = _through_level(_Stream(_Stream(encoded, kept.watch), _Pooling().step), network, level + 1)

    def joined(slab: torch.Tensor) -> torch.Tensor:
        narrow = _convolve(slab, network.narrows[level])
        del slab
        total = F.interpolate(narrow, scale_factor=2, mode="nearest")
        kept.add_to(total, None)
        return total

    return _through_block(_Stream(coarser, joined), network.decoders[level])


def slab_planes(plane_bytes: int, stride: int, target_bytes: int) -> int:
    """Return the number of planes of a slab: the largest multiple of the stride that fits into `target_bytes`, at least one stride."""
    return max(1, target_bytes // (plane_bytes * stride)) * stride


def stream_logits(network: ResidualUNet, slabs: Slabs, head: nn.Conv3d) -> Slabs:
    """Yield the logits of an image that is given as slabs of planes.

    Parameters
    ----------
    network
        Network with batch-norm folded, in the type and on the device of the slabs.
    slabs
        Consecutive parts of the image, (1, 1, planes, y, x); y, x and the total number of planes are multiples of the network's stride.
    head
        The last layer in float32, which keeps the logits precise even if the feature maps are bf16.

    Returns
    -------
    iterator of torch.Tensor
        Consecutive parts of the logits, float32 (1, species, planes, y, x).
    """
    return _Stream(_through_level(slabs, network, 0), lambda slab: _convolve(slab.float(), head))
