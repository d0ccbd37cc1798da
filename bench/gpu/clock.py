"""Time work on a device, with synchronisation; the median of a few calls after a warm-up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def synchronised(device: str) -> float:
    """Wait for the device; return the clock, in seconds."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(work: Callable[[], object], device: str, *, rounds: int = 5, warm_up: int = 1, most: float = 20.0) -> float:
    """Return the median seconds of some calls; fewer rounds if they would take longer than `most`."""
    for _ in range(warm_up):
        work()
    times: list[float] = []
    begun = synchronised(device)
    while len(times) < rounds and (not times or time.perf_counter() - begun < most):
        start = synchronised(device)
        work()
        times.append(synchronised(device) - start)
    return statistics.median(times)


def peak_bytes(work: Callable[[], object], device: str) -> int:
    """Return the peak of the device's memory that tensors took during a call; 0 on a processor."""
    if device != "cuda":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def network_flops(channels: tuple[int, ...], species: int = 1) -> float:
    """Return the floating-point operations of the residual U-Net per voxel of its finest level (a multiply-add counts as two)."""
    total, before = 2.0 * channels[0] * species, 1
    for level, wide in enumerate(channels):
        down = 27 * before * wide + 27 * wide * wide + (before * wide if before != wide else 0)
        up = 2 * 27 * wide * wide + channels[level + 1] * wide / 8 if level < len(channels) - 1 else 0
        total += 2 * (down + up) / 8**level
        before = wide
    return total
