"""How much faster are predict and convert in two processes than in one?  They are interleaved, so that a busy machine slows both.

*predict*: a random tomogram (32 x 1024 x 1024 voxels, shards of 256) and an untrained network of the default size, with
`--cluster local --threads 1`, one worker and two in turn.  The clock runs from the first finished shard to the last, because the start of
processes and torch takes the same time for any amount of work.
*convert*, whose tasks are whole files: two files, in one process and in two.

    python -m bench.processes --quick | --full
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mrcfile
import numpy as np

from bench.timing import Finding, Size, compared, interleaved, run_script
from tomostream import __version__
from tomostream.cluster import Resources
from tomostream.progress import Bar, Progress
from tomostream.stages.conversion.stage import convert_many
from tomostream.stages.prediction.stage import PredictSettings, predict_many
from tomostream.store.conversion import ConvertSettings

SPACING = 10.0


class FirstAndLast(Progress):
    """Record when each shard was done."""

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
    from tomostream.strategies.unet.model import UNetSettings, save_model
    from tomostream.strategies.unet.network import ResidualUNet

    with mrcfile.new(folder / "noise.mrc") as file:
        file.set_data(np.random.default_rng(0).normal(size=(32, edge, edge)).astype(np.float32))
        file.voxel_size = SPACING
    convert_many(
        {"noise": str(folder / "noise.mrc")}, folder, ConvertSettings(), resources=Resources(), overwrite=False, progress=Progress()
    )
    settings = UNetSettings(
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
        batch_statistics="tomogram",
    )
    save_model(folder / "model", ResidualUNet(channels, 1, seed=0), settings)


def seconds(folder: Path, workers: int) -> float:
    progress = FirstAndLast()
    resources = Resources(kind="local", workers=workers, threads=1, memory=2 * 10**9)
    predict_many(
        {"noise": str(folder / "noise.ome.zarr")},
        model=folder / "model",
        out=folder / "scores",
        settings=PredictSettings(device="cpu", block_size=(32, 128, 128)),
        resources=resources,
        overwrite=False,
        progress=progress,
    )
    shutil.rmtree(folder / "scores")  # otherwise the next round would find it done
    shards = len(progress.times) - workers  # the first shard of each worker only starts the clock
    return (progress.times[-1] - progress.times[workers - 1]) / shards


def converting(folder: Path, workers: int) -> float:
    """Return the seconds per file, in processes that are already warm."""
    files = [str(folder / f"noise{number}.mrc") for number in range(2 * workers)]
    out = folder / "converted"
    progress = FirstAndLast()
    resources = Resources(kind="local", workers=workers, threads=1, memory=2 * 10**9)
    convert_many({Path(file).stem: file for file in files}, out, ConvertSettings(), resources=resources, overwrite=True, progress=progress)
    shutil.rmtree(out)
    files_left = len(progress.times) - workers
    return (progress.times[-1] - progress.times[workers - 1]) / files_left


def measure(size: Size) -> list[Finding]:
    edge = 1024 if size.is_full else 512
    make(size.folder, edge, (8, 16, 32))
    for number in range(4):
        (size.folder / f"noise{number}.mrc").symlink_to(size.folder / "noise.mrc")
    contestants = {f"{n} process{'es'[: 2 * n - 2]}": functools.partial(seconds, size.folder, n) for n in (1, 2)}
    times = interleaved(contestants, size.rounds)
    found = [
        compared("processes", f"predict, a shard: one process / two, 32 x {edge} x {edge}", times, "1 process", "2 processes", target=1.7)
    ]
    if size.is_full:
        times = interleaved(
            {"1 process": lambda: converting(size.folder, 1), "2 processes": lambda: converting(size.folder, 2)}, size.rounds
        )
        found.append(compared("processes", "convert, a file: one process / two", times, "1 process", "2 processes"))
    return found


if __name__ == "__main__":
    run_script(measure, __doc__)
