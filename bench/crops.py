"""Do crops stream from the store as fast as from memory, and does training ever wait for them?

Crops of 64 voxels, with twice the volume's voxels in total; chunks of 64, uncompressed, the file in the cache.  In turn:

- *images in memory*: uniform crops from a buffer that holds the standardised volume, which are just copies;
- *images, one reader*: the same crops with a buffer of a quarter of the volume: they are read, standardised, and copied;
- *batches in memory*, *one reader*, *two readers*: the batches of `train`, half of the crops around labels, turned, with labels and weights;
  the two readers are worker processes of PyTorch's `DataLoader`.

Also reported: the bytes that an epoch of uniform crops reads, over those of the volume; and the share of time that a training loop, with
the forward and backward passes of `train`, waits for its next batch, on a GPU too if there is one.

    python -m bench.crops --quick | --full
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch.utils.data import DataLoader

from bench.moments import made_up
from bench.timing import Finding, Size, compared, interleaved, run_script
from tomostream import defaults
from tomostream.geometry import Box, Triple
from tomostream.graph.moments import statistics_of
from tomostream.learn.objectives import make_objective
from tomostream.learn.precision import autocast, resolve_precision
from tomostream.learn.prefetch import prefetched
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.stream.dataset import SubtomogramDataset
from tomostream.tomogram import Tomogram

BATCH, RADIUS = 4, 10.0
PREFETCH = 2


class Counted:
    """A tomogram that counts the bytes read from it."""

    def __init__(self, tomogram: Tomogram) -> None:
        self._tomogram = tomogram
        self.shape: Triple = tomogram.shape
        self.chunk: Triple = tomogram.chunk
        self.nbytes = 0

    def read_standardised(self, box: Box, *, out: np.ndarray) -> np.ndarray:
        """Read a box, and count its bytes."""
        self.nbytes += 4 * box.size
        return self._tomogram.read_standardised(box, out=out)


class Streams:
    """Datasets of one volume: uniform crops with twice its voxels in total, and as many crops around labels."""

    def __init__(self, tomogram: Tomogram, points: np.ndarray, size: Size) -> None:
        self._tomogram, self._points = tomogram, points
        voxels = int(np.prod(tomogram.shape))
        self.crop = 64 if size.is_full else 32
        self.batches = max(4, round(2 * voxels / self.crop**3 / BATCH))
        self.volume_bytes = 4 * voxels
        self._buffer = {True: 2 * self.volume_bytes, False: max(self.volume_bytes // 4, 8 * 4 * (2 * self.crop) ** 3)}

    def dataset(self, volume: Tomogram | Counted, *, is_kept: bool, labelled: float = 0.5) -> SubtomogramDataset:
        """Return a dataset whose buffer keeps the whole volume, or has a quarter of its size."""
        return SubtomogramDataset(
            tomograms=[volume], points=[[self._points]], radius=[RADIUS], buffer_bytes=self._buffer[is_kept], crop=self.crop, stride=4,
            batch=BATCH, batches_per_epoch=self.batches, labelled_fraction=labelled,
        )  # fmt: skip


def count(batches: Iterable[object]) -> int:
    return sum(1 for _ in batches)


def waiting(dataset: SubtomogramDataset, steps: int, device: torch.device) -> float:
    """Return the share of a training loop's time that it waits for batches."""
    network = ResidualUNet(defaults.CHANNELS, 1, seed=0).to(device=device, memory_format=torch.channels_last_3d)
    optimiser = torch.optim.AdamW(network.parameters(), lr=defaults.LEARNING_RATE)
    objective = make_objective(
        "nnpu", weight=defaults.KL_WEIGHT, order=defaults.KL_ORDER, labelled_fraction=[0.005], expected_fraction=[0.05]
    )
    precision, waited, started = resolve_precision("auto", device), 0.0, 0.0
    with prefetched(itertools.chain.from_iterable(itertools.repeat(dataset)), limit=steps + 1, depth=PREFETCH) as batches:
        for number in range(steps + 1):
            before = time.perf_counter()
            batch = next(batches)
            if number == 0:  # the first batch can't be ready yet
                started = time.perf_counter()
            else:
                waited += time.perf_counter() - before
            here = type(batch)(*(part.to(device, non_blocking=True) for part in batch))
            with autocast(device, precision):
                logits = network(here.image)
            loss = objective(logits, here)
            optimiser.zero_grad()
            loss.total.backward()
            optimiser.step()
            loss.total.item()
    return waited / (time.perf_counter() - started)


def measure(size: Size) -> list[Finding]:
    shape = (500, 1000, 1000) if size.is_full else (64, 192, 192)
    tomogram = made_up(size, np.float32, shape)
    tomogram = tomogram.with_normalisation(statistics_of(tomogram, clip_sigma=defaults.CLIP_SIGMA))
    points = np.random.default_rng(1).uniform(RADIUS, np.array(shape) - RADIUS, (10, 3))
    streams = Streams(tomogram, points, size)
    kept, streamed = streams.dataset(tomogram, is_kept=True), streams.dataset(tomogram, is_kept=False)
    count(kept)  # reads the volume into memory
    crops = streams.batches * BATCH
    contestants: dict[str, Callable[[], object]] = {
        "images in memory": lambda: count(kept.uniform_images(crops, seed=0)),
        "images, one reader": lambda: count(streamed.uniform_images(crops, seed=0)),
        "batches in memory": lambda: count(kept),
        "batches, one reader": lambda: count(streamed),
    }
    if size.is_full:
        two = DataLoader(streamed, batch_size=None, num_workers=2, multiprocessing_context="spawn", persistent_workers=True)
        count(two)  # starts the processes, whose start must not be timed
        contestants["batches, two readers"] = lambda: count(two)
    times = interleaved(contestants, size.rounds)
    counted = Counted(tomogram)
    count(streams.dataset(counted, is_kept=False, labelled=0.0))
    name = "crops"
    rates = ", ".join(f"{label} {crops / min(values):.0f}" for label, values in times.items())
    found = [
        compared(
            name, f"images: rate with one reader / in memory, {streams.crop} voxels", times, "images in memory", "images, one reader",
            target=0.5, note=f"crops/s: {rates}",
        ),
        compared(name, "batches: rate with one reader / in memory", times, "batches in memory", "batches, one reader", target=0.5),
        Finding(name, "bytes read an epoch / bytes of the volume", counted.nbytes / streams.volume_bytes, 1.5, is_least=False),
    ]  # fmt: skip
    if size.is_full:
        found.append(compared(name, "batches: two readers / in memory", times, "batches in memory", "batches, two readers", target=0.8))
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        share = waiting(streams.dataset(tomogram, is_kept=False), 30 if size.is_full else 2, torch.device(device))
        found.append(Finding(name, f"share of a training step spent waiting, {device}", 100 * share, 5.0, is_least=False, unit="%"))
    return found


if __name__ == "__main__":
    run_script(measure, __doc__)
