"""Run a residual U-Net over a block in little memory: as a stream of planes along z, layer by layer.

A feature map of the finest level takes channels x bytes for every voxel of the block, and a plain forward pass holds several of them.
But a 3x3x3 convolution needs three planes of its input to make one of its output.  So each layer here takes slabs of planes from the
layer before, and gives slabs of planes as soon as it can:

    image ─ block ─ queue ──────────────────── + ─ block ─ head ─ logits
              └ max-pool 2 ─ block ─ 1x1x1 ─ x2 ┘

1. A convolution keeps the last two planes of its input; its zero padding are a zero plane before the first and after the last.
2. Max-pooling keeps an odd plane until its partner comes.
3. What skips the coarser levels waits in a queue until their answer arrives: 4 planes and a slab for 2 levels, 16 for 3.

So the memory is that of some tens of planes, however deep the block is.  No voxel is computed twice, and all sums are those of the
plain forward pass; only the shapes that the convolution kernels see differ, so logits agree to rounding (1e-5).

Limits: made for `ResidualUNet` with batch-norm folded (`learn.batch_norm_folding.deployed`); one block at a time.
"""

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

from tomostream.learn.level_network import ResidualBlock
from tomostream.strategies.unet.network import ResidualUNet

Slabs = Iterator[torch.Tensor]  # each (1, channels, some planes, y, x)
DEPTH = 2  # dimension of the planes


class _Stream:
    """Slabs, each put through `step`; what `end` gives comes last.  Both may give None: nothing yet.

    Not a generator, because a waiting generator keeps its last slab alive, and there are dozens of layers.
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
                result = self._step(next(self._slabs))  # no name for the slab: the step frees it as early as it can
            except StopIteration:
                self._has_ended = True
                result = self._end()
            if result is not None:
                return result
        raise StopIteration


class _Queue:
    """Planes that wait for a slower branch; they leave in their order."""

    def __init__(self) -> None:
        self._waiting: deque[torch.Tensor] = deque()

    def watch(self, slab: torch.Tensor) -> torch.Tensor:
        """Keep what passes."""
        self._waiting.append(slab)
        return slab

    def add_to(self, total: torch.Tensor, layer: nn.Module | None) -> None:
        """Add the next planes, after `layer` if there is one, to `total` in place, as many as it has."""
        done = 0
        while done < total.shape[DEPTH]:
            slab = self._waiting.popleft()
            part = slab[:, :, : total.shape[DEPTH] - done]
            if part.shape[DEPTH] < slab.shape[DEPTH]:
                self._waiting.appendleft(slab[:, :, part.shape[DEPTH] :])
            total[:, :, done : done + part.shape[DEPTH]] += part if layer is None else _convolve(part, layer)
            done += part.shape[DEPTH]


class _Convolution:
    """A 3x3x3 convolution with zero padding: gives a plane less at first, and that plane at the end."""

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
    """Copy planes out of their slab, so that the slab can be freed."""
    return planes.clone(memory_format=torch.channels_last_3d)


def _zero_plane(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like[:, :, :1], memory_format=torch.channels_last_3d)


def _convolve(planes: torch.Tensor, conv: nn.Module) -> torch.Tensor:
    """Convolve with zero padding in the plane and none along z.

    On a processor, oneDNN is called by its name: `conv3d` takes it for float32 by a rule made for images (it looks at y, not at z y x),
    and falls back to a loop that is 10 times slower on thin slabs.
    """
    if not isinstance(conv, nn.Conv3d):
        raise TypeError(f"a 3-D convolution is needed, found {type(conv).__name__}")
    padding = [0, conv.kernel_size[1] // 2, conv.kernel_size[2] // 2]
    if planes.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return torch.mkldnn_convolution(planes, conv.weight, conv.bias, padding, [1, 1, 1], [1, 1, 1], 1)
    return F.conv3d(planes, conv.weight, conv.bias, padding=padding)


def _halved(planes: torch.Tensor) -> torch.Tensor:
    """Max-pool 2 x 2 x 2, axis by axis: 2 to 4 times the speed of `max_pool3d`, which looks for the places of the maxima too."""
    planes = torch.maximum(planes[:, :, 0::2], planes[:, :, 1::2])
    planes = torch.maximum(planes[:, :, :, 0::2], planes[:, :, :, 1::2])
    return torch.maximum(planes[..., 0::2], planes[..., 1::2])


def _through_block(slabs: Slabs, block: nn.Module) -> Slabs:
    """Apply a residual block whose batch-norm is folded."""
    if not isinstance(block, ResidualBlock):
        raise TypeError(f"a residual block is needed, found {type(block).__name__}")
    if not (isinstance(block.first.norm, nn.Identity) and isinstance(block.second.norm, nn.Identity)):
        raise TypeError("batch-norm must be folded into the convolutions first (learn.folding.deployed)")
    skip = None if isinstance(block.skip, nn.Identity) else block.skip
    skipped = _Queue()

    def joined(slab: torch.Tensor) -> torch.Tensor:
        skipped.add_to(slab, skip)
        return F.relu_(slab)

    first, second = _Convolution(block.first.conv), _Convolution(block.second.conv)
    inner = _Stream(_Stream(_Stream(slabs, skipped.watch), first.step, first.end), F.relu_)
    return _Stream(_Stream(inner, second.step, second.end), joined)


def _through_level(slabs: Slabs, network: ResidualUNet, level: int) -> Slabs:
    """Apply the network from this level down to the coarsest and up again."""
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
    """How many planes a slab has: a multiple of the stride, as many as `target_bytes` hold, at least one stride."""
    return max(1, target_bytes // (plane_bytes * stride)) * stride


def stream_logits(network: ResidualUNet, slabs: Slabs, head: nn.Conv3d) -> Slabs:
    """Logits of the image whose planes come as `slabs`.

    Parameters
    ----------
    network
        Deployed (batch-norm folded), in the type and on the device of the slabs.
    slabs
        The image, (1, 1, some planes, y, x); y, x and the number of all planes are multiples of the network's stride.
    head
        The last layer in float32: logits keep their digits even where the feature maps are bf16.

    Returns
    -------
    iterator of torch.Tensor
        Float32 (1, species, some planes, y, x), the planes in their order.
    """
    return _Stream(_through_level(slabs, network, 0), lambda slab: _convolve(slab.float(), head))
