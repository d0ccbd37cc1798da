"""How much faster is predict in two processes of one thread than in one?  Interleaved, so that a busy machine slows both.

    python bench/processes.py [--edge 1536] [--rounds 3] [--quick]

A random tomogram (32 x EDGE x EDGE voxels, shards of 256) and an untrained network of the default size; `--cluster local --threads 1`, with one worker and with two in turn.  The
clock runs from the first finished shard to the last: starting processes and loading torch takes the same seconds for a minute's work as for a
day's.  Prints the times and the median of the ratios, with the machine's load before each round: on a machine that others use the ratio
says little.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mrcfile
import numpy as np

from tomostream import __version__
from tomostream.cluster import ClusterSettings
from tomostream.progress import Bar, Progress
from tomostream.stages.converting import ConvertSettings, convert_many
from tomostream.stages.predicting import PredictSettings, predict_many

SPACING = 10.0


class FirstAndLast(Progress):
    """Notes when each shard was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Bar]:
        """See `Progress.track`."""
        del title, total
        times = self.times

        class Clock(Bar):
            def advance(self, steps: int = 1, note: str = "") -> None:
                del note
                times.extend([time.perf_counter()] * bool(steps))

        yield Clock()


def make(folder: Path, edge: int, channels: tuple[int, ...]) -> None:
    from tomostream.learn.model_folder import ModelSettings, save_model
    from tomostream.learn.resunet import ResidualUNet

    with mrcfile.new(folder / "noise.mrc") as file:
        file.set_data(np.random.default_rng(0).normal(size=(32, edge, edge)).astype(np.float32))
        file.voxel_size = SPACING
    convert_many([str(folder / "noise.mrc")], folder, ConvertSettings(), memory=2 * 10**9, overwrite=False, progress=Progress())
    settings = ModelSettings(
        channels=channels,
        species=("particle",),
        radius_ang=(40.0,),
        level=0,
        spacing=SPACING,
        clip_sigma=3.0,
        label_shape="sphere",
        objective={"name": "nnpu"},
        precision="float32",
        trained_on=(),
        version=__version__,
    )
    save_model(folder / "model", ResidualUNet(channels, 1, seed=0), settings, {})


def seconds(folder: Path, workers: int) -> float:
    progress = FirstAndLast()
    cluster = ClusterSettings(kind="local", workers=workers, threads=1, memory=2 * 10**9)
    predict_many(
        [str(folder / "noise.ome.zarr")],
        model=folder / "model",
        out=folder / "scores",
        settings=PredictSettings(device="cpu", block_size=(32, 128, 128)),
        cluster=cluster,
        overwrite=False,
        progress=progress,
    )
    shutil.rmtree(folder / "scores")  # or the next round would find it done
    shards = len(progress.times) - workers  # the first of each worker only start the clock
    return (progress.times[-1] - progress.times[workers - 1]) / shards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=1536, help="of y and x, voxels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of 768 voxels")
    given = parser.parse_args()
    edge, rounds = (768, 1) if given.quick else (given.edge, given.rounds)
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, edge, (8, 16, 32))
        for number in range(rounds):
            load = os.getloadavg()[0]
            one, two = seconds(folder, 1), seconds(folder, 2)
            ratios.append(one / two)
            print(
                f"round {number + 1}: load {load:.1f}; 1 process {one:.3f} s a shard, 2 processes {two:.3f} s; {one / two:.2f} x",
                flush=True,
            )
    print(f"median {statistics.median(ratios):.2f} x")


if __name__ == "__main__":
    main()
