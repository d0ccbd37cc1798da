"""How long do the other steps of the default model take on the card, and how fast can threads write shards?

The sizes are those of one shard of 512 voxels (level 1: 256, with a halo 304), with a correlation by one FFT of the whole block.
"""

from __future__ import annotations

import itertools
import math
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from torch.nn import functional as F

from bench.gpu.clock import seconds_of
from bench.gpu.log import Log
from tomostream.geometry import triple
from tomostream.store.shard_file import Codec, write_shard_file


def run(log: Log) -> None:
    edge = 32 if log.is_small else 256
    log.attempt("steps", lambda: steps(log, edge))
    log.attempt("to the machine", lambda: leaving(log, 2 * edge))
    log.attempt("writing", lambda: writing(log, 2 * edge))


def steps(log: Log, edge: int) -> None:
    wide = edge + 16
    logits = torch.randn(wide, wide, wide, device=log.device)
    kernel = torch.randn(wide, wide, wide, device=log.device)

    def correlation() -> torch.Tensor:
        spectrum = torch.fft.rfftn(logits)
        squares = torch.fft.rfftn(logits * logits)
        mean = torch.fft.irfftn(spectrum * squares.conj(), s=logits.shape)
        variance = torch.fft.irfftn(squares * spectrum, s=logits.shape)
        return torch.fft.irfftn(spectrum * torch.fft.rfftn(kernel), s=logits.shape) / (variance - mean * mean + 1).clamp_(min=1).sqrt_()

    reach, radius = 2, 2.0
    offsets = [o for o in itertools.product(range(-reach, reach + 1), repeat=3) if math.hypot(*o) <= radius]

    def ball_by_shifts() -> torch.Tensor:
        inner = wide - 2 * reach
        total = torch.zeros(inner, inner, inner, device=log.device, dtype=torch.float32)
        for z, y, x in offsets:
            total += logits[reach + z :, reach + y :, reach + x :][:inner, :inner, :inner]
        return total / len(offsets)

    ball = torch.zeros(1, 1, 2 * reach + 1, 2 * reach + 1, 2 * reach + 1, device=log.device)
    for z, y, x in offsets:
        ball[0, 0, z + reach, y + reach, x + reach] = 1 / len(offsets)
    fine = torch.empty(0)

    def enlarge() -> torch.Tensor:
        nonlocal fine
        core = logits[8 : 8 + edge, 8 : 8 + edge, 8 : 8 + edge][None, None]
        fine = F.interpolate(core, scale_factor=2, mode="trilinear", align_corners=False)
        return fine

    works = {
        "correlation, five transforms": correlation,
        "mean over the ball by shifts": ball_by_shifts,
        "mean over the ball by convolution": lambda: F.conv3d(logits[None, None], ball),
        "interpolate to level 0": enlarge,
        "sigmoid": lambda: torch.sigmoid_(fine),
        "to int8": lambda: (fine * 254).round_().sub_(127).to(torch.int8),
        "to float16": lambda: fine.to(torch.float16),
    }
    with torch.inference_mode():
        for name, work in works.items():
            log.attempt(
                name,
                lambda name=name, work=work: log(f"on the device, {edge}: {name}", 1000 * seconds_of(work, log.device, rounds=3), "ms"),
            )


def leaving(log: Log, edge: int) -> None:
    here = torch.rand(edge, edge, edge, device=log.device)
    pinned = torch.empty(here.shape, pin_memory=log.device == "cuda")
    kept = np.empty(here.shape, dtype=np.float32)
    log(f"{edge}^3 float32 to pinned memory", 1000 * seconds_of(lambda: pinned.copy_(here, non_blocking=True), log.device, rounds=3), "ms")
    log("    to memory that is kept", 1000 * seconds_of(lambda: torch.from_numpy(kept).copy_(here), log.device, rounds=3), "ms")
    log("    to new memory", 1000 * seconds_of(here.cpu, log.device, rounds=3), "ms")
    log("    sigmoid by scipy, one thread", 1000 * seconds_of(lambda: expit(kept, out=kept), "cpu", rounds=1), "ms")


def writing(log: Log, edge: int) -> None:
    """Write shards of 512 as predict does, with a checksum for each chunk."""
    shards = [np.random.default_rng(0).random((edge, edge, edge), dtype=np.float32)] * 4
    folder = log.scratch / "writing"

    def write(number: int) -> None:
        path: Path = folder / "c" / str(number) / "0" / "0"
        write_shard_file(path, shards[number], chunk=triple(min(64, edge)), shard=triple(edge), codec=Codec.parse("none"), scratch=folder)

    for threads in (1, 2, 4):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as executor:
            list(executor.map(write, range(len(shards))))
        seconds = time.perf_counter() - start
        log(f"writing 4 shards of {edge}^3 float32, {threads} threads", sum(s.nbytes for s in shards) / seconds / 1e9, "GB/s", str(folder))
    shutil.rmtree(folder, ignore_errors=True)
