"""How much time do the checksums of the chunks take?  Run each stage with and without them, in turn, in one process.

- *convert*: default levels, uncompressed, chunks of 64, shards of 256; the source is in the file cache, and so is what is written (a disk would
  hide the cost).
- *read*: the tomogram's level 0 as network input, shard by shard, as predict and the statistics read it.
- *predict*: a small network (with a larger one checksums weigh less) on one block that is read from the store; the scores are written to a
  shard.

    python -m bench.checksums --quick | --full
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch

from bench.converting import convert
from bench.memory import write_volume
from bench.predict_plan import plan_network
from bench.timing import Finding, Size, compared, interleaved, run_script, seconds
from tomostream import defaults
from tomostream.geometry import Box, triple
from tomostream.graph.moments import statistics_of
from tomostream.inference.region_scoring import score_region
from tomostream.store.shard_file import Codec, write_shard_file
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.scorer import StreamedNetwork, UNetScorer
from tomostream.tomogram import open_tomogram

WAYS = {"with": True, "without": False}
CHANNELS = (8, 16, 32)


def measure(size: Size) -> list[Finding]:
    shape, edge = ((256, 768, 768), 192) if size.is_full else ((64, 128, 128), 64)
    rounds = size.rounds * 4
    source = size.folder / "volume.mrc"
    write_volume(source, shape)
    bare = replace(Codec.parse(defaults.CODEC), has_checksum=False)
    stores = {way: size.folder / way for way in WAYS}

    def converted(way: str) -> Callable[[], float]:
        def work() -> float:
            shutil.rmtree(stores[way], ignore_errors=True)
            with patch.object(Codec, "parse", (lambda text: bare) if way == "without" else Codec.parse):
                return seconds(lambda: convert(source, stores[way], None))

        return work

    times = interleaved({f"convert {way}": converted(way) for way in WAYS}, rounds)
    tomograms = {way: open_tomogram(stores[way] / "volume.ome.zarr") for way in WAYS}
    normalisation = statistics_of(tomograms["with"], clip_sigma=defaults.CLIP_SIGMA)
    tomograms = {way: one.with_normalisation(normalisation) for way, one in tomograms.items()}

    def read(way: str) -> Callable[[], None]:
        def work() -> None:
            for core in tomograms[way].levels[0].layout.shards.cores():
                tomograms[way].read_standardised(core)

        return work

    times |= interleaved({f"read {way}": read(way) for way in WAYS}, rounds)
    scorer = UNetScorer(StreamedNetwork(ResidualUNet(CHANNELS, 1, seed=0), device="cpu", precision="float32", threads=None))
    box = Box.whole(triple(edge)).clipped(Box.whole(shape))
    plan = plan_network(box.shape, CHANNELS, "float32", 16 * 10**9)

    def predict(way: str, scratch: Path) -> Callable[[], None]:
        codec = replace(bare, has_checksum=WAYS[way])

        def work() -> None:
            scores = score_region(tomograms[way].read_standardised, plan, box, scorer, as_logits=False, note=lambda _: None)
            write_shard_file(scratch / "c" / "0" / "0" / "0", scores[0], chunk=plan.chunk, shard=plan.shard, codec=codec, scratch=scratch)

        return work

    torch.set_num_threads(1)
    predict("with", size.folder)()  # the first call prepares the kernels
    times |= interleaved({f"predict {way}": predict(way, size.folder) for way in WAYS}, rounds)
    edges = " x ".join(map(str, shape))
    return [
        compared(
            "checksums", f"{stage} with checksums / without, {what} float32", times, f"{stage} with", f"{stage} without", target=target, is_least=False
        )
        for stage, what, target in (("convert", edges, 1.03), ("read", edges, None), ("predict", " x ".join(map(str, box.shape)), 1.03))
    ]  # fmt: skip


if __name__ == "__main__":
    run_script(measure, __doc__)
