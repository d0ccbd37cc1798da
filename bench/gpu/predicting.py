"""How fast is predict from store to store, where does its time go, and how much faster is the network alone?

A tomogram of 500 x 1000 x 1000 voxels, int8 and float32, in the file cache; scores float32 and int8.  The default model reads level 1
(network and matched filter), the wide one level 0 (the network alone).  Rates count the voxels of level 0, whatever level is read.

The seconds of each step are summed over the threads that share the work, so they may be more than the elapsed time.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from bench.gpu.clock import seconds_of
from bench.gpu.log import Log
from bench.gpu.network import flags
from bench.gpu.stores import model, tomogram
from bench.timing import high_water_bytes
from tomostream.cluster import Resources
from tomostream.geometry import Triple
from tomostream.progress import Progress
from tomostream.stages.prediction.stage import PredictSettings, predict_many
from tomostream.stages.voxel_statistics.stage import measure as measure_statistics
from tomostream.tomogram import store_normalisation

# module, attribute: what is called where
STEPS = (
    ("tomostream.tomogram.Tomogram.read_standardised", "read and normalise"),
    ("tomostream.inference.device_scores._Lane.bring", "copy to the device"),
    ("tomostream.inference.device_scores._compute", "device, copies and turns included"),
    ("tomostream.inference.device_scores._Lane.take", "wait for a piece, copy it back"),
    ("tomostream.strategies.unet.fusion.ball_mean", "mean over the ball, processor"),
    ("tomostream.strategies.matched_filter.correlation.CorrelationScorer.correlations", "matched filter, processor"),
    ("tomostream.inference.region_scoring.upsample", "interpolate, processor"),
    ("tomostream.inference.region_scoring._sigmoid", "sigmoid, processor"),
    ("tomostream.inference.region_scoring.encode_scores", "encode, processor"),
    ("tomostream.stages.prediction.shard_task.write_shard", "checksums and writing"),
    ("tomostream.strategies.adaptive_statistics.own_statistics", "batch statistics (before)"),
    ("tomostream.stages.prediction.prepare_task.measure", "voxel statistics (before)"),
)


class Stopwatch:
    """Measure the seconds in each step; a step that is called by another one counts in both."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Time every step that exists, inside this context."""
        with ExitStack() as stack:
            for target, name in STEPS:
                try:
                    stack.enter_context(patch(target, self._timed(_found(target), name)))
                except (AttributeError, ImportError, ModuleNotFoundError):
                    self.seconds[f"{name}: not found"] = 0.0
            yield

    def _timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

        return timed


def _found(target: str) -> Callable[..., Any]:
    import pkgutil

    return pkgutil.resolve_name(target)


def run(log: Log) -> None:
    shape: Triple = (48, 96, 96) if log.is_small else (500, 1000, 1000)
    log.attempt("store", lambda: prepared(log, shape, "int8"), seconds=15)
    fused = log.attempt("model", lambda: model(log.scratch, (16, 32, 64), level=1, is_fused=True))
    wide = log.attempt("model", lambda: model(log.scratch, (32, 64, 128), level=0, is_fused=False))
    small = log.attempt("model", lambda: model(log.scratch, (16, 32, 64), level=1, is_fused=False))
    if fused is None or wide is None or small is None:
        return

    def measured(name: str, folder: Path, dtype: str, precision: str, score_dtype: str, memory: int) -> None:
        what = f"{name}, {dtype}, {' x '.join(map(str, shape))}, {precision}, scores {score_dtype}, {memory} GB"
        work = lambda: end_to_end(log, what, folder, dtype, shape, precision, score_dtype, memory)  # noqa: E731  (it names what is timed)
        log.attempt(what, work, seconds=8 if log.device == "cuda" else 0)

    for channels, edges in (((16, 32, 64), [n // 2 for n in shape]), ((32, 64, 128), list(shape))):
        log.attempt("alone", lambda c=channels, e=edges: resident(log, c, e), seconds=5)
    measured("default 16/32/64 with filter", fused, "int8", "bf16", "float32", 16)
    measured("32/64/128 alone, level 0", wide, "int8", "bf16", "float32", 16)
    measured("default 16/32/64 with filter", fused, "int8", "float32", "float32", 2)  # as the command does it without options
    measured("32/64/128 alone, level 0", wide, "int8", "bf16", "int8", 16)
    measured("default 16/32/64 with filter", fused, "int8", "float32", "float32", 16)
    with patch("tomostream.stages.prediction.overlap._MOST", 1):
        measured("one shard at a time, default 16/32/64 with filter", fused, "int8", "bf16", "float32", 16)
    measured("16/32/64 alone", small, "int8", "bf16", "float32", 16)
    measured("default 16/32/64 with filter", fused, "float32", "bf16", "int8", 16)


def prepared(log: Log, shape: Triple, dtype: str) -> None:
    start = time.perf_counter()
    source = tomogram(log.scratch, shape, dtype)
    made = time.perf_counter()
    for level in (0, 1):
        at = source.at_level(level)
        if at.normalisation is None:
            store_normalisation(at.path, level, measure_statistics(at, memory=8 * 10**9))
    log(f"making a store of {dtype}", made - start, "s", f"its statistics {time.perf_counter() - made:.1f} s")


def end_to_end(log: Log, what: str, folder: Path, dtype: str, shape: Triple, precision: str, score_dtype: str, memory: int) -> None:
    source = tomogram(log.scratch, shape, dtype)
    if source.at_level(0).normalisation is None:
        prepared(log, shape, dtype)
    out = log.scratch / "scores"

    def predict() -> float:
        shutil.rmtree(out, ignore_errors=True)
        start = time.perf_counter()
        predict_many(
            {"made-up": str(source.path)}, model=folder, out=out, settings=PredictSettings(device=log.device, precision=precision, score_dtype=score_dtype),
            resources=Resources(memory=memory * 10**9), overwrite=True, progress=Progress(),
        )  # fmt: skip
        return time.perf_counter() - start

    if log.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    first = predict()
    seconds, watch = first, Stopwatch()
    if time.monotonic() + first + 5 < log.deadline:
        with watch.watching():
            seconds = predict()
    voxels = float(np.prod(shape))
    log(what, voxels / seconds / 1e6, "Mvox/s", f"of level 0; {seconds:.2f} s, the first time {first:.2f} s")
    for name, spent in sorted(watch.seconds.items(), key=lambda item: -item[1]):
        log(f"    {name}", spent, "s", f"{100 * spent / seconds:.0f} %")
    log("    peak memory of the process", high_water_bytes() / 1e9, "GB", "since the section began")
    if log.device == "cuda":
        log("    peak memory of the card", torch.cuda.max_memory_reserved() / 1e9, "GB")
    shutil.rmtree(out, ignore_errors=True)


def resident(log: Log, channels: tuple[int, ...], shape: list[int]) -> None:
    """Time the network alone, bf16, on blocks that are on the device; predict is compared with this."""
    from bench.gpu.network import Bench

    edges = [min(n, 256) // 8 * 8 for n in shape]
    bench = Bench(log, channels, (edges[0], edges[1], edges[2]), log.half)
    with torch.inference_mode(), flags():
        seconds = seconds_of(bench.whole, log.device, rounds=3)
    rate = float(np.prod(edges)) / seconds / 1e6
    log(f"network alone, {'/'.join(map(str, channels))}, bf16, resident blocks of {edges}", rate, "Mvox/s", "of the level that it reads")
    log("    for the whole volume", float(np.prod(shape)) / rate / 1e6, "s", f"{' x '.join(map(str, shape))} of that level")
