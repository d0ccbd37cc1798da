"""Describe the machine and its limits: card, libraries, memory bandwidth, matrix products, copies to and from the card."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import torch

from bench.gpu.clock import seconds_of
from bench.gpu.log import Log
from bench.timing import machine


def run(log: Log) -> None:
    for name, value in machine().items():
        log(name, value)
    memory = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    log("memory", memory["MemTotal"].strip(), note=f"available {memory['MemAvailable'].strip()}")
    for folder in ("/tmp", "/dev/shm", str(log.scratch)):
        log.attempt(folder, lambda folder=folder: log(f"free in {folder}", shutil.disk_usage(folder).free / 1e9, "GB"))
    log("torch's threads", torch.get_num_threads(), note=f"{os.cpu_count()} cores, kernel {platform.release()}")
    if log.device == "cuda":
        log.attempt("card", lambda: card(log))
    kind = torch.bfloat16
    edge = 512 if log.is_small else 8192
    gigabytes = 0.01 if log.is_small else 4.0
    log.attempt("device copy", lambda: device_copy(log, gigabytes))
    for name, dtype, size in (("bf16", kind, edge), ("float32, no TF32", torch.float32, edge // 2)):
        log.attempt(name, lambda name=name, dtype=dtype, size=size: product(log, name, dtype, size))
    log.attempt("copies", lambda: copies(log, gigabytes / 4))
    log.attempt("disk", lambda: disk(log, gigabytes / 4))


def card(log: Log) -> None:
    properties = torch.cuda.get_device_properties(0)
    log(
        "card",
        properties.name,
        note=f"{properties.multi_processor_count} multiprocessors, capability {properties.major}.{properties.minor}",
    )
    free, total = torch.cuda.mem_get_info()
    log("card's memory", total / 1e9, "GB", f"{free / 1e9:.1f} GB free")
    log("cuDNN", torch.backends.cudnn.version(), note=f"CUDA {torch.version.cuda}")
    ask = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,memory.total,pcie.link.gen.current,pcie.link.width.current,clocks.sm,power.limit",
        "--format=csv,noheader",
    ]
    log("nvidia-smi", subprocess.run(ask, capture_output=True, text=True, check=False, timeout=20).stdout.strip())


def device_copy(log: Log, gigabytes: float) -> None:
    source = torch.randn(int(gigabytes * 1e9 / 4), device=log.device)
    target = torch.empty_like(source)
    seconds = seconds_of(lambda: target.copy_(source), log.device)
    log("copy within the device, read and written", 2 * source.nbytes / seconds / 1e12, "TB/s")


def product(log: Log, name: str, dtype: torch.dtype, edge: int) -> None:
    a, b = (torch.randn(edge, edge, device=log.device, dtype=dtype) for _ in range(2))
    seconds = seconds_of(lambda: a @ b, log.device)
    log(f"matrix product of {edge}, {name}", 2 * edge**3 / seconds / 1e12, "TFLOP/s")


def copies(log: Log, gigabytes: float) -> None:
    count = int(gigabytes * 1e9 / 4)
    here = torch.zeros(count, device=log.device)
    for name, host in (("pageable", torch.zeros(count)), ("pinned", torch.zeros(count, pin_memory=log.device == "cuda"))):
        for way, source, target in (("to the card", host, here), ("from the card", here, host)):
            seconds = seconds_of(lambda s=source, t=target: t.copy_(s), log.device)
            log(f"copy {way}, {name} memory", source.nbytes / seconds / 1e9, "GB/s")

    def fresh() -> None:
        np.empty(count, dtype=np.float32).fill(1)

    log("memory that is new to the process, one thread", 4 * count / seconds_of(fresh, "cpu", rounds=3) / 1e9, "GB/s")
    pinning = seconds_of(lambda: torch.empty(count, pin_memory=log.device == "cuda"), log.device, rounds=3, warm_up=0)
    log("pinning memory", 4 * count / pinning / 1e9, "GB/s")


def disk(log: Log, gigabytes: float) -> None:
    data = np.ones(int(gigabytes * 1e9), dtype=np.uint8)
    path = log.scratch / "written"

    def write() -> None:
        with path.open("wb") as file:
            file.write(data)

    log("write a file into the cache", data.nbytes / seconds_of(write, "cpu", rounds=3) / 1e9, "GB/s", str(log.scratch))
    log("read it again", data.nbytes / seconds_of(lambda: path.open("rb").readinto(data), "cpu", rounds=3) / 1e9, "GB/s")
    path.unlink()
