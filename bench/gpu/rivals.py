"""How does predict's network compare with MONAI's sliding windows on the same card, network and precision?

Both score the same volume, at the level that the network reads, from main memory to main memory.  MONAI uses windows of 96 voxels with an
overlap of a quarter, as in `bench.predicting`, in batches of 1 and 8, and once more with volume and result on the card.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import torch

from bench.gpu.clock import seconds_of
from bench.gpu.log import Log
from bench.gpu.network import flags
from bench.predicting import OVERLAP, ROI
from tomostream.learn.batch_norm_folding import deployed
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.scorer import StreamedNetwork


def run(log: Log) -> None:
    if importlib.util.find_spec("monai") is None:
        log("MONAI", "left out", note="it is not installed: pip install monai, or its wheel")
        return
    for channels, shape in (((16, 32, 64), (248, 500, 500)), ((32, 64, 128), (160, 400, 400))):
        edges = (32, 64, 64) if log.is_small else shape
        log.attempt("MONAI", lambda c=channels, e=edges: compare(log, c, e), seconds=8)


def compare(log: Log, channels: tuple[int, ...], shape: tuple[int, int, int]) -> None:
    from monai.inferers import sliding_window_inference

    network = ResidualUNet(channels, 1, seed=0)
    volume = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    scorer = StreamedNetwork(network, device=log.device, precision="bf16", threads=None)
    plain = deployed(network).to(device=log.device, dtype=torch.bfloat16, memory_format=torch.channels_last_3d)
    voxels, name = float(np.prod(shape)), f"{'/'.join(map(str, channels))}, bf16, {' x '.join(map(str, shape))}"

    def through(part: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = plain(part.to(dtype=torch.bfloat16, memory_format=torch.channels_last_3d)).float()
        return result

    ours = seconds_of(lambda: scorer.logits(volume), log.device, rounds=3)
    log(f"tomostream, {name}", voxels / ours / 1e6, "Mvox/s", f"{ours:.3f} s")
    roi = tuple(min(ROI, n) for n in shape)
    for batch in (1, 8):
        for where in ("cpu", log.device):

            def windows(batch: int = batch, where: str = where) -> None:
                with torch.inference_mode(), flags():
                    image = torch.from_numpy(volume)[None, None].to(where)
                    sliding_window_inference(image, roi, batch, through, overlap=OVERLAP, sw_device=log.device, device=where)

            def timed(batch: int = batch, where: str = where, windows: object = windows) -> None:
                seconds = seconds_of(windows, log.device, rounds=2, most=6)
                log(
                    f"MONAI, batches of {batch}, result on {where}, {name}",
                    voxels / seconds / 1e6,
                    "Mvox/s",
                    f"{seconds:.3f} s; MONAI / ours {seconds / ours:.2f}",
                )

            log.attempt("MONAI", timed, seconds=4)
