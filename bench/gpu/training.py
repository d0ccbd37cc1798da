"""How many steps per second does training take on this device, and does it wait for its crops?

Crops of the default size stream from level 1 of the tomogram's store as in `train`: half of them around labels, turned, with labels and
weights.  Each batch is one AdamW step, as in `learn.fit`.

- *step*: steps per second with streamed crops, and the share of the time spent waiting for them;
- *step on one batch*: the same batch repeated, already on the device: the cost of the network alone;
- *crops*: batches per second of one reader, nothing else running.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np
import torch

from bench.gpu.clock import network_flops, seconds_of, synchronised
from bench.gpu.log import Log
from bench.gpu.stores import RADIUS_VOX, tomogram
from tomostream import defaults
from tomostream.learn.batch import Batch
from tomostream.learn.objectives import make_objective
from tomostream.learn.precision import autocast
from tomostream.learn.prefetch import prefetched
from tomostream.stages.voxel_statistics.stage import measure
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.stream.dataset import SubtomogramDataset


def crops(log: Log, batch: int) -> SubtomogramDataset:
    """Return a dataset of crops of level 1, with a hundred labels."""
    source = tomogram(log.scratch, (48, 96, 96) if log.is_small else (500, 1000, 1000), "int8").at_level(1)
    source = source.with_normalisation(source.normalisation or measure(source, memory=8 * 10**9))
    points = np.random.default_rng(1).uniform(RADIUS_VOX, np.array(source.shape) - RADIUS_VOX, (100, 3))
    return SubtomogramDataset(
        tomograms=[source], points=[[points]], radius=[RADIUS_VOX / 2], buffer_bytes=500_000_000, crop=16 if log.is_small else defaults.CROP_VOX, stride=4,
        batch=batch, batches_per_epoch=defaults.STEPS_PER_EPOCH, labelled_fraction=defaults.LABELLED_FRACTION,
    )  # fmt: skip


class Learner:
    """A network in training on the device."""

    def __init__(self, channels: tuple[int, ...], precision: str, device: str) -> None:
        self.device, self.precision = torch.device(device), precision
        self.network = ResidualUNet(channels, 1, seed=0).to(device=device, memory_format=torch.channels_last_3d).train()
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=defaults.LEARNING_RATE)
        self.objective = make_objective(
            "nnpu", weight=defaults.KL_WEIGHT, order=defaults.KL_ORDER, labelled_fraction=[0.005], expected_fraction=[0.05]
        )

    def step(self, batch: Batch) -> None:
        """Take a step as `learn.fit` does."""
        here = batch.to(self.device, non_blocking=True)
        with autocast(self.device, self.precision):
            logits = self.network(here.image)
        loss = self.objective(logits, here)
        for value in loss.terms.values():
            float(value)
        self.optimiser.zero_grad()
        loss.total.backward()
        self.optimiser.step()


def run(log: Log) -> None:
    log.attempt("crops", lambda: loading(log))
    for channels, precision in (
        ((16, 32, 64), log.half),
        ((32, 64, 128), log.half),
        ((16, 32, 64), "float32"),
        ((8, 16, 32), log.half),
        ((32, 64, 128), "float32"),
    ):
        log.attempt("step", lambda c=channels, p=precision: stepping(log, c, p, defaults.BATCH), seconds=4)
    log.attempt("step", lambda: stepping(log, (16, 32, 64), log.half, 4 * defaults.BATCH), seconds=6)


def loading(log: Log) -> None:
    dataset = crops(log, defaults.BATCH)
    sum(1 for _ in dataset)  # the buffer fills
    start = time.perf_counter()
    count = sum(1 for _ in dataset)
    log(
        f"crops: batches of {defaults.BATCH} crops of {dataset_edge(log)} by one reader", count / (time.perf_counter() - start), "batches/s"
    )


def dataset_edge(log: Log) -> int:
    return 16 if log.is_small else defaults.CROP_VOX


def stepping(log: Log, channels: tuple[int, ...], precision: str, batch: int) -> None:
    learner = Learner(channels, precision, log.device)
    dataset = crops(log, batch)
    endless = itertools.chain.from_iterable(itertools.repeat(dataset))
    steps, warm_up, waited, started = (4, 1, 0.0, 0.0) if log.is_small else (100, 10, 0.0, 0.0)
    first: Batch | None = None
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        with prefetched(endless, limit=steps + warm_up, depth=2) as batches:
            for number in range(steps + warm_up):
                if number == warm_up:
                    started = synchronised(log.device)
                before = time.perf_counter()
                one = next(batches)
                waited += (time.perf_counter() - before) * (number >= warm_up)
                first = first or one
                learner.step(one)
        seconds = (synchronised(log.device) - started) / steps
        here = Batch(*(part.to(learner.device) for part in first or ()))
        alone = seconds_of(lambda: learner.step(here), log.device, rounds=4 if log.is_small else 30)
        forward = seconds_of(forward_of(learner, here), log.device, rounds=4 if log.is_small else 30)
    voxels = batch * dataset_edge(log) ** 3
    name = f"{'/'.join(map(str, channels))}, {precision}, {batch} crops of {dataset_edge(log)}"
    log(f"steps, {name}", 1 / seconds, "steps/s", f"{100 * waited / seconds / steps:.1f} % of the time spent waiting for crops")
    log(
        f"    on one batch, {name}", 1 / alone, "steps/s",
        f"{1000 * alone:.2f} ms, forward {1000 * forward:.2f} ms, {voxels / alone / 1e6:.1f} Mvox/s, {3 * network_flops(channels) * voxels / alone / 1e12:.2f} TFLOP/s",
    )  # fmt: skip
    if log.device == "cuda":
        log("    peak memory of the card", torch.cuda.max_memory_allocated() / 1e9, "GB")


def forward_of(learner: Learner, batch: Batch) -> Callable[[], object]:
    def forward() -> object:
        with autocast(learner.device, learner.precision):
            return learner.network(batch.image)

    return forward
