"""Would int8 or a compiler make the network faster on a processor?  One core, in turns, on slabs as `predict` streams them (4 MB).

- *convolutions*: the 3x3x3 convolutions of a network of 8/16/32 channels, channels last, in bf16 as `predict` computes them, and in int8
  (uint8 activations, int8 weights per channel) by each engine that torch has for this processor; int8 without the conversion of what goes in and
  comes out, so that it can only be worse in a network.
- *block*: a residual block in bf16, as it is and by `torch.compile` (inductor, frozen weights); needs a C++ compiler.

A figure is the ratio of processor times; on a machine with other work their median over many short turns.

    python -m bench.arithmetic --quick | --full
"""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional as F

from bench.timing import Finding, Size, compared, interleaved, run_script
from tomostream.learn.level_network import ResidualBlock

PAIRS = ((8, 8), (16, 8), (8, 16), (16, 16), (16, 32), (32, 32))  # output and input channels
SLAB_BYTES = 4_000_000
PLANE = 128  # edge of a plane
_LEAST_SECONDS = 0.05  # of a turn


def repeated(work: Callable[[], object], seconds: float) -> Callable[[], float]:
    """Return a contestant that repeats a call, and returns the processor's seconds of one: the median of its calls."""

    def turn() -> float:
        each: list[float] = []
        while sum(each) < seconds or len(each) < 5:
            before = time.process_time()
            work()
            each.append(time.process_time() - before)
        return statistics.median(each)

    return turn


def slab(channels: int) -> torch.Tensor:
    planes = max(4, SLAB_BYTES // (2 * channels * PLANE * PLANE))
    values = torch.rand(1, channels, planes, PLANE, PLANE)
    return values.contiguous(memory_format=torch.channels_last_3d)


def convolutions(outputs: int, inputs: int) -> dict[str, Callable[[], object]]:
    layer = nn.Conv3d(inputs, outputs, 3, padding=1).eval()
    image = slab(inputs)
    own, there = copy.deepcopy(layer).to(torch.bfloat16).to(memory_format=torch.channels_last_3d), image.to(torch.bfloat16)
    made: dict[str, Callable[[], object]] = {"bf16": lambda: own(there)}
    scales = layer.weight.detach().abs().amax(dim=(1, 2, 3, 4)) / 127
    weight = torch.quantize_per_channel(layer.weight.detach(), scales, torch.zeros(outputs, dtype=torch.int64), 0, torch.qint8)
    activations = torch.quantize_per_tensor(image, 1 / 127, 0, torch.quint8).contiguous(memory_format=torch.channels_last_3d)
    for engine in torch.backends.quantized.supported_engines:
        if engine not in ("onednn", "fbgemm"):
            continue
        torch.backends.quantized.engine = engine
        packed = torch.ops.quantized.conv3d_prepack(weight, layer.bias.detach(), [1] * 3, [1] * 3, [1] * 3, 1)

        def run(packed: object = packed, engine: str = engine) -> object:
            torch.backends.quantized.engine = engine
            return torch.ops.quantized.conv3d(activations, packed, 0.05, 64)

        made[f"int8 {engine}"] = run
    return made


def blocks() -> dict[str, Callable[[], object]]:
    torch._inductor.config.freezing = True
    block = ResidualBlock(8, 8, F.relu_).eval()
    for name, module in block.named_modules():  # folded, as `predict` uses it
        if isinstance(module, nn.BatchNorm3d):
            parent = block.get_submodule(name.rpartition(".")[0]) if "." in name else block
            setattr(parent, name.rpartition(".")[2], nn.Identity())
    block = block.to(torch.bfloat16).to(memory_format=torch.channels_last_3d)
    image = slab(8).to(torch.bfloat16)
    compiled = torch.compile(copy.deepcopy(block))
    compiled(image)
    return {"as it is": lambda: block(image), "compiled": lambda: compiled(image)}


def measure(size: Size) -> list[Finding]:
    torch.set_num_threads(1)
    found: list[Finding] = []
    seconds = _LEAST_SECONDS if size.is_full else 0.01

    def turns(works: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        for work in works.values():
            for _ in range(3):  # kernels are made, memory is touched
                work()
        return interleaved({name: repeated(work, seconds) for name, work in works.items()}, size.rounds)

    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's quantised tensors are to be removed
        for outputs, inputs in PAIRS if size.is_full else PAIRS[:1]:
            times = turns(convolutions(outputs, inputs))
            for name in times:
                if name != "bf16":
                    what = f"3x3x3 convolution, {inputs} to {outputs} channels: time in bf16 / time in {name}"
                    found.append(compared("arithmetic", what, times, "bf16", name, target=1.6))
        if size.is_full:
            times = turns(blocks())
            found.append(
                compared("arithmetic", "residual block of 8 channels, bf16: time as it is / time compiled", times, "as it is", "compiled")
            )
    return found


if __name__ == "__main__":
    run_script(measure, __doc__)
