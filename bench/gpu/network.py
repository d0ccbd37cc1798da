"""How fast is the network itself, and which way of running it is the fastest?  All run on a block that is on the device.

- *whole*: as `predict` does it on a GPU (`strategies.unet.whole_block`), convolutions that give the same bits every time;
- *stream*: plane by plane, as on a processor, in slabs of several sizes;
- *plain*: the network's own `forward`, batch-norm folded;
- *not joined*: convolution, bias, sum and ReLU each by itself, in bf16 too;
- *compiled*: torch.compile; *graph*: replayed as one CUDA graph.

Voxels are those of the level that the network reads.  Ways are tried as long as time is left.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch.nn import functional as F

from bench.gpu.clock import network_flops, peak_bytes, seconds_of
from bench.gpu.log import Log
from tomostream.learn.batch_norm_folding import deployed
from tomostream.strategies.unet import whole_block
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.streaming import slab_planes, stream_logits

Way = Callable[[], torch.Tensor]
KINDS = {"bf16": torch.bfloat16, "float32": torch.float32}


def flags(*, benchmark: bool = False, deterministic: bool = True, tf32: bool = False) -> AbstractContextManager[None]:
    return torch.backends.cudnn.flags(enabled=True, benchmark=benchmark, deterministic=deterministic, allow_tf32=tf32)


class Bench:
    """A network and a block on the device, in one precision."""

    def __init__(self, log: Log, channels: tuple[int, ...], shape: tuple[int, int, int], precision: str) -> None:
        self.log, self.channels, self.precision, self.shape = log, channels, precision, shape
        self.kind = KINDS[precision]
        self.folded = deployed(ResidualUNet(channels, 1, seed=0))
        self.head = copy.deepcopy(self.folded.head).to(log.device)
        self.network = copy.deepcopy(self.folded).to(device=log.device, dtype=self.kind, memory_format=torch.channels_last_3d)
        generator = torch.Generator().manual_seed(0)
        self.image = (
            torch.randn(1, 1, *shape, generator=generator).to(log.device, self.kind).contiguous(memory_format=torch.channels_last_3d)
        )
        self.reference: torch.Tensor | None = None

    def measure(
        self, name: str, way: Way, context: AbstractContextManager[None] | None = None, *, rounds: int = 3, warm_up: int = 1
    ) -> None:
        """Time a way, and compare its logits with those of the first way."""
        with torch.inference_mode(), context or flags():
            found = way().float().reshape(-1)
            again = way().float().reshape(-1)
            is_same = bool(torch.equal(found, again))
            if self.reference is None:
                self.reference = found.clone()
            error = float((found - self.reference).abs().max() / self.reference.abs().max())
            del found, again
            seconds = seconds_of(way, self.log.device, rounds=rounds, warm_up=warm_up, most=8.0)
            peak = peak_bytes(way, self.log.device)
        voxels = float(np.prod(self.shape))
        self.log(
            f"{'/'.join(map(str, self.channels))} {self.precision} {name}",
            voxels / seconds / 1e6,
            "Mvox/s",
            f"{1000 * seconds:.1f} ms, {network_flops(self.channels) * voxels / seconds / 1e12:.1f} TFLOP/s, {peak / 1e9:.2f} GB "
            f"({peak / voxels / self.channels[0] / self.kind.itemsize:.1f} maps), same bits twice: {is_same}, off the first way by {error:.1e}",
        )

    def whole(self) -> torch.Tensor:
        """Run the block as predict does."""
        return whole_block.whole_logits(self.network, self.head, self.image, is_joined=whole_block.can_be_joined(self.network))

    def stream(self, slab_bytes: int) -> torch.Tensor:
        """Run the block plane by plane."""
        depth, height, width = self.shape
        step = slab_planes(height * width * self.kind.itemsize * self.channels[0], self.network.stride, slab_bytes)
        slabs = (self.image[:, :, first : first + step].contiguous(memory_format=torch.channels_last_3d) for first in range(0, depth, step))
        return torch.cat(list(stream_logits(self.network, slabs, self.head)), dim=2)

    def plain(self) -> torch.Tensor:
        """Run the network's own forward pass."""
        return self.network(self.image)

    def apart(self) -> torch.Tensor:
        """Run the whole block, each operation separately."""
        return whole_block.whole_logits(self.network, self.head, self.image)


def run(log: Log) -> None:
    # the default model reads level 1 of 500 x 1000 x 1000: all of it
    default = (32, 48, 48) if log.is_small else (248, 500, 500)
    wide = (16, 32, 32) if log.is_small else (160, 400, 400)
    for channels, shape in (((16, 32, 64), default), ((32, 64, 128), wide), ((8, 16, 32), default)):
        log.attempt(f"{channels}", lambda c=channels, s=shape: ways(log, c, s, log.half), seconds=10)
    for channels, shape in (((16, 32, 64), default), ((32, 64, 128), wide)):
        log.attempt(f"{channels} float32", lambda c=channels, s=shape: in_float32(log, c, s), seconds=8)
    log.attempt("compiled", lambda: compiled(log, (16, 32, 64), default), seconds=40)


def ways(log: Log, channels: tuple[int, ...], shape: tuple[int, int, int], precision: str) -> None:
    bench = Bench(log, channels, shape, precision)
    log.attempt("whole", lambda: bench.measure("whole, as predict does", bench.whole))
    for size in (4, 64, 512):
        log.attempt("stream", lambda size=size: bench.measure(f"stream, slabs of {size} MB", lambda: bench.stream(size * 10**6)))
    log.attempt("plain", lambda: bench.measure("plain forward", bench.plain))
    if log.device != "cuda":
        layers(bench)
        return
    log.attempt("apart", lambda: bench.measure("whole, not joined", bench.apart))
    log.attempt("layers", lambda: layers(bench))


def layers(bench: Bench) -> None:
    """Time each kind of step of the finest level separately, and report the bytes that it moves."""
    log, wide = bench.log, bench.channels[0]
    x = torch.randn(1, wide, *bench.shape, device=log.device, dtype=bench.kind).contiguous(memory_format=torch.channels_last_3d)
    coarse = torch.randn(1, wide, *(n // 2 for n in bench.shape), device=log.device, dtype=bench.kind).contiguous(
        memory_format=torch.channels_last_3d
    )
    network, first_last = bench.network, x.contiguous()
    first, second = network.encoders[0].first.conv, network.encoders[0].second.conv
    steps = {
        "convolution of the image": (lambda: first(bench.image), 1 + wide),
        "convolution of the image without bias": (lambda: F.conv3d(bench.image, first.weight, None, padding=1), 1 + wide),
        "convolution": (lambda: second(x), 2 * wide),
        "convolution without bias": (lambda: F.conv3d(x, second.weight, None, padding=1), 2 * wide),
        "convolution, channels first": (lambda: F.conv3d(first_last, second.weight.contiguous(), None, padding=1), 2 * wide),
        "ReLU in place": (lambda: F.relu_(x), 2 * wide),
        "halving": (lambda: whole_block._halved(x), 2 * wide),
        "max_pool3d": (lambda: F.max_pool3d(x, 2), 1.2 * wide),
        "adding the enlarged": (lambda: whole_block._add_enlarged(x, coarse), 2.1 * wide),
        "interpolate": (lambda: F.interpolate(coarse, scale_factor=2, mode="nearest"), 1.1 * wide),
        "head": (lambda: bench.head(x[:, :, : bench.shape[0] // 4].float()), 0.25 * wide * 3),
    }  # fmt: skip
    with torch.inference_mode(), flags():
        for name, (step, numbers) in steps.items():

            def timed(name: str = name, step: Way = step, numbers: float = numbers) -> None:
                seconds = seconds_of(step, log.device, rounds=3)
                moved = numbers * float(np.prod(bench.shape)) * bench.kind.itemsize / seconds / 1e12
                log(f"{'/'.join(map(str, bench.channels))} step: {name}", 1000 * seconds, "ms", f"{moved:.2f} TB/s of what must move")

            log.attempt(name, timed)


def in_float32(log: Log, channels: tuple[int, ...], shape: tuple[int, int, int]) -> None:
    bench = Bench(log, channels, shape, "float32")
    log.attempt("whole", lambda: bench.measure("whole, as predict does", bench.whole))
    if log.device == "cuda":
        log.attempt("tf32", lambda: bench.measure("whole, TF32", bench.whole, flags(tf32=True)))
        log.attempt("first", lambda: channels_first(bench))


def channels_first(bench: Bench) -> None:
    network = copy.deepcopy(bench.network).to(memory_format=torch.contiguous_format)
    image = bench.image.contiguous()
    bench.measure("plain forward, channels first", lambda: network(image))


def compiled(log: Log, channels: tuple[int, ...], shape: tuple[int, int, int]) -> None:
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(log.scratch / "inductor"))
    bench = Bench(log, channels, shape, log.half)
    bench.measure("whole, as predict does", bench.whole)
    if log.device == "cuda":
        log.attempt("graph", lambda: graph(bench))
        step = torch.compile(lambda image: whole_block._through_level(image, bench.network, 0, whole_block._through_block))
        bench.measure("compiled, features only, then the head", lambda: bench.head(step(bench.image)[:, :, :].float())[0])


def graph(bench: Bench) -> None:
    with torch.inference_mode(), flags():
        bench.whole()
        torch.cuda.synchronize()
        captured = torch.cuda.CUDAGraph()
        with torch.cuda.graph(captured):
            result = bench.whole()

    def replay() -> torch.Tensor:
        captured.replay()
        return result

    bench.measure("whole, as a CUDA graph", replay)
