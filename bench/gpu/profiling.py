"""Profile a shard of predict and some training steps by torch's profiler.

`profile.txt` in the output folder has tables, `trace-NAME.json.gz` traces for chrome://tracing or Perfetto.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from bench.gpu.log import Log
from bench.gpu.stores import model, tomogram
from bench.gpu.training import Learner, crops
from tomostream import defaults
from tomostream.geometry import Triple
from tomostream.inference.device_scores import DeviceScorer, stored_region
from tomostream.inference.region_scoring import score_region
from tomostream.stages.voxel_statistics.stage import measure
from tomostream.strategies.loading import load_model, plan_model

LARGEST_TRACE = 12_000_000  # bytes


def run(log: Log) -> None:
    (log.out / "profile.txt").write_text("")
    log.attempt("predict", lambda: predict(log, (16, 32, 64), level=1, is_fused=True, precision=log.half))
    log.attempt("predict", lambda: predict(log, (32, 64, 128), level=0, is_fused=False, precision=log.half), seconds=8)
    log.attempt("train", lambda: train(log), seconds=12)


def profiled(log: Log, name: str, work: Callable[[], object]) -> None:
    """Profile the second of two calls."""
    work()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if log.device == "cuda" else [])]
    with profile(activities=activities) as found:
        work()
        if log.device == "cuda":
            torch.cuda.synchronize()
    averages = found.key_averages()
    with (log.out / "profile.txt").open("a") as file:
        for key in ("self_cuda_time_total", "self_cpu_time_total") if log.device == "cuda" else ("self_cpu_time_total",):
            table = averages.table(sort_by=key, row_limit=25, max_name_column_width=90)
            file.write(f"{name}, by {key}\n{table}\n\n")
    key = "self_device_time_total" if log.device == "cuda" else "self_cpu_time_total"
    for one in sorted(averages, key=lambda event: -getattr(event, key))[:8]:
        log(f"    {name}: {one.key[:90]}", getattr(one, key) / 1000, "ms", f"{one.count} calls")
    trace = log.scratch / f"{name}.json"
    found.export_chrome_trace(str(trace))
    packed = _packed(trace)
    if packed.stat().st_size <= LARGEST_TRACE:
        shutil.copy(packed, log.out / f"trace-{name}.json.gz")


def _packed(trace: Path) -> Path:
    packed = trace.with_suffix(".json.gz")
    with trace.open("rb") as source, gzip.open(packed, "wb", compresslevel=3) as target:
        shutil.copyfileobj(source, target)
    return packed


def predict(log: Log, channels: tuple[int, ...], *, level: int, is_fused: bool, precision: str) -> None:
    shape: Triple = (48, 96, 96) if log.is_small else (500, 1000, 1000)
    source = tomogram(log.scratch, shape, "int8").at_level(level)
    source = source.with_normalisation(source.normalisation or measure(source, memory=8 * 10**9))
    loaded = load_model(model(log.scratch, channels, level=level, is_fused=is_fused))
    plan = plan_model(loaded, shape, precision=precision, memory=16 * 10**9, block_size=None, name="made-up")
    scorer = loaded.scorer(device=log.device, precision=precision, threads=torch.get_num_threads())
    core = plan.shards.core((0, 0, 0))

    def shard() -> None:
        if isinstance(scorer, DeviceScorer):
            stored_region(source.read_standardised, plan, core, scorer, as_logits=False, dtype="float32", note=print)
            return
        score_region(source.read_standardised, plan, core, scorer, as_logits=False, note=print)

    log(f"a shard of {core.shape}, {channels}", core.size / 1e6, "Mvox", "profiled")
    profiled(log, f"predict-{'-'.join(map(str, channels))}", shard)


def train(log: Log) -> None:
    learner = Learner((16, 32, 64), log.half, log.device)
    batches = [batch for batch, _ in zip(crops(log, defaults.BATCH), range(2 if log.is_small else 10), strict=False)]

    def steps() -> None:
        for batch in batches:
            learner.step(batch)

    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        profiled(log, "train", steps)
