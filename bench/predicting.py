"""How fast is predict, compared with the network alone and with other ways of tiling?

Each way is timed on a piece of a volume, and scaled by the voxels that it computes in the whole volume:

- *predict*: reads a block from the store, standardises it, streams it through the network, and writes the scores' shard;
- *network*: a plain forward pass of the same network and precision on a tensor of the same block;
- *MONAI*, where it is installed: `sliding_window_inference`, roi 96, overlap 0.25, the same network and precision, on one window, times the number
  of windows;
- *tiles*: the original software's way: float32, windows of 24 voxels side by side without overlap, eight at a time (wrong at their borders);
- *default*: predict with the default model, network and matched filter, compared with its network alone on the same voxels; and with a model
  that tells look-alikes.

Redundancy is computed as in `predict_plan.py`: computed voxels over those of the volume.

    python -m bench.predicting --quick | --full
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from bench.moments import made_up
from bench.predict_plan import default_scorer, plan_default, plan_network
from bench.timing import Finding, Size, compared, interleaved, run_script
from tomostream import defaults
from tomostream.errors import BudgetError
from tomostream.geometry import Box, Triple
from tomostream.graph.moments import statistics_of
from tomostream.inference.region_scoring import score_region
from tomostream.learn.batch_norm_folding import deployed
from tomostream.store.shard_file import Codec, write_shard_file
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.scorer import StreamedNetwork, UNetScorer
from tomostream.tomogram import Tomogram

ROI, OVERLAP, TILE, TILES = 96, 0.25, 24, 8
MONAI = "MONAI, a window"
VOLUMES: tuple[Triple, ...] = ((112, 1024, 1024), (500, 1000, 1000))
WIDTHS = ((8, 16, 32), (16, 32, 64), (32, 64, 128))


def windows_of(volume: Triple) -> int:
    """Return the number of windows of a sliding window with overlap."""
    step = int(ROI * (1 - OVERLAP))
    return math.prod(1 + max(0, -(-(n - ROI) // step)) for n in volume)


@dataclass(frozen=True, slots=True)
class Ways:
    """The contestants, for one network on one block that is a volume of its own."""

    tomogram: Tomogram
    channels: tuple[int, ...]
    precision: str
    size: Size

    def contestants(self) -> dict[str, Callable[[], object]]:
        """Return the contestants by name."""
        network = ResidualUNet(self.channels, 1, seed=0)
        scorer = StreamedNetwork(network, device="auto", precision=self.precision, threads=None)
        box = Box.whole(self.tomogram.shape)
        plan = plan_network(self.tomogram.shape, self.channels, self.precision, 16 * 10**9)

        def predict() -> None:
            scores = score_region(self.tomogram.read_standardised, plan, box, UNetScorer(scorer), as_logits=False, note=lambda _: None)
            write_shard_file(
                self.size.folder / "scores" / "c" / "0" / "0" / "0", scores[0], chunk=plan.chunk, shard=plan.shard,
                codec=Codec.parse("none"), scratch=self.size.folder,
            )  # fmt: skip

        (self.size.folder / "scores").mkdir(exist_ok=True)
        kind = {"float32": torch.float32, "bf16": torch.bfloat16}[self.precision]
        plain = deployed(network).to(device=scorer.device, dtype=kind, memory_format=torch.channels_last_3d)
        image = torch.from_numpy(self.tomogram.read_standardised(box))[None, None]
        ready = image.to(device=scorer.device, dtype=kind, memory_format=torch.channels_last_3d)
        window = torch.randn(1, 1, *[min(ROI, n) for n in self.tomogram.shape])

        def alone() -> None:
            with torch.inference_mode():
                plain(ready).sum().item()

        def monai() -> None:
            from monai.inferers import sliding_window_inference

            def through(part: torch.Tensor) -> torch.Tensor:
                return plain(part.to(device=scorer.device, dtype=kind, memory_format=torch.channels_last_3d)).float()

            with torch.inference_mode():
                sliding_window_inference(window, tuple(window.shape[2:]), 1, through, overlap=OVERLAP)

        original = ResidualUNet(self.channels, 1, seed=0).eval()
        tiles = torch.randn(TILES, 1, TILE, TILE, TILE)

        def tiled() -> None:
            with torch.inference_mode():
                original(tiles)

        contestants: dict[str, Callable[[], object]] = {"predict": predict, "network": alone, "tiles": tiled}
        if importlib.util.find_spec("monai") is not None:
            contestants[MONAI] = monai
        for contestant in contestants.values():
            contestant()  # the first call prepares the kernels
        return contestants


def measured(size: Size, channels: tuple[int, ...], shape: Triple, rounds: int) -> list[Finding]:
    tomogram = made_up(size, np.float32, shape)
    tomogram = tomogram.with_normalisation(statistics_of(tomogram, clip_sigma=defaults.CLIP_SIGMA))
    precision = "bf16" if torch.backends.cpu.get_cpu_capability() == "AVX512" or torch.cuda.is_available() else "float32"
    times = interleaved(Ways(tomogram, channels, precision, size).contestants(), rounds)
    name, wide, edges = "predict", "/".join(map(str, channels)), " x ".join(map(str, shape))
    rate = math.prod(shape) / min(times["predict"]) / 1e6
    found = [
        compared(
            name,
            f"network alone / predict, {wide}, {precision}, block {edges}",
            times,
            "network",
            "predict",
            target=0.9,
            note=f"{rate:.2f} Mvox/s",
        )
    ]
    for volume in VOLUMES[: 2 if size.is_full else 1]:
        for memory in (2, 16):
            try:
                plan = plan_network(volume, channels, precision, memory * 10**9)
            except BudgetError:
                continue
            ours = plan.computed_voxels / math.prod(shape)  # blocks of this size, for the whole volume
            what = f"{wide}, {precision}, {' x '.join(map(str, volume))} in {memory} GB"
            scale = windows_of(volume) * ROI**3 / math.prod(min(ROI, n) for n in shape) / ours
            goal = {2: 1.5, 16: 2.2}[memory]
            if MONAI in times:
                contest = f"MONAI, roi {ROI}, overlap {OVERLAP} / predict, {what}"
                found.append(compared(name, contest, times, MONAI, "predict", target=goal, factor=scale))
            if channels == WIDTHS[-1]:
                scale = math.prod(-(-n // TILE) for n in volume) / TILES / ours
                goal = {2: 1.2, 16: 2.5}[memory]
                found.append(
                    compared(name, f"float32 in tiles of {TILE} / predict, {what}", times, "tiles", "predict", target=goal, factor=scale)
                )
    return found


def default_model(size: Size, shape: Triple, rounds: int) -> list[Finding]:
    """Time the default model, network and matched filter, at the level that it reads."""
    tomogram = made_up(size, np.float32, shape).at_level(1)
    read = tomogram.with_normalisation(statistics_of(tomogram, clip_sigma=defaults.CLIP_SIGMA)).read_standardised
    fused, box = default_scorer(torch.get_num_threads()), Box.whole(shape)
    telling = default_scorer(torch.get_num_threads(), tells=True)
    alone = UNetScorer(StreamedNetwork(ResidualUNet(defaults.CHANNELS, 1, seed=0), device="auto", precision="float32", threads=None))
    plans = {True: plan_default(shape, 16 * 10**9), False: plan_network(shape, defaults.CHANNELS, "float32", 16 * 10**9, level=1)}

    def default() -> None:
        score_region(read, plans[True], box, fused, as_logits=False, note=lambda _: None)

    def network() -> None:
        score_region(read, plans[False], box, alone, as_logits=False, note=lambda _: None)

    def tells() -> None:
        score_region(read, plans[True], box, telling, as_logits=False, note=lambda _: None)

    default()
    times = interleaved({"default": default, "its network": network, "telling look-alikes": tells}, rounds)
    rate = math.prod(shape) / min(times["default"]) / 1e6
    what = f"the default model's network alone / the default model, float32, block {' x '.join(map(str, shape))}"
    return [
        compared("predict", what, times, "its network", "default", note=f"{rate:.2f} Mvox/s of level 0"),
        compared("predict", "a model that tells look-alikes / one that does not", times, "telling look-alikes", "default"),
    ]


def redundancies() -> list[Finding]:
    found = []
    for channels in WIDTHS:
        for memory in (2, 4, 8, 16):
            plan = plan_network(VOLUMES[0], channels, "bf16", memory * 10**9)
            what = f"redundancy, {'/'.join(map(str, channels))}, bf16, {' x '.join(map(str, VOLUMES[0]))}, {memory} GB"
            goal = 2.2 if (channels[0], memory) == (8, 2) else None
            found.append(
                Finding("predict", what, plan.redundancy, goal, is_least=False, note=f"blocks of {' x '.join(map(str, plan.shard))}")
            )
    for memory in (1, 2):
        fused = plan_default(VOLUMES[1], memory * 10**9)
        what = f"redundancy of the default model's network, level 1 of {' x '.join(map(str, VOLUMES[1]))}, {memory} GB"
        scorer = default_scorer()
        blocks = list(fused.blocks(Box.whole(VOLUMES[1])))
        read = sum(scorer.read_box(block.needed, fused.level_shape).size for block in blocks)
        found.append(Finding("predict", what, read / math.prod(fused.level_shape), note=f"blocks of {' x '.join(map(str, fused.shard))}"))
    return found


def measure(size: Size) -> list[Finding]:
    torch.set_num_threads(min(2, os.cpu_count() or 1) if size.is_full else 1)
    rounds = size.rounds
    if not size.is_full:
        return [*redundancies(), *measured(size, WIDTHS[0], (32, 96, 96), rounds), *default_model(size, (32, 96, 96), rounds)]
    found = [*redundancies(), *measured(size, WIDTHS[0], (112, 256, 256), rounds), *default_model(size, (112, 256, 256), rounds)]
    return [*found, *measured(size, WIDTHS[-1], (96, 128, 128), rounds)]


if __name__ == "__main__":
    run_script(measure, __doc__)
