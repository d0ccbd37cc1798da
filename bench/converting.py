"""Is convert as fast as the disk?  Compare it with a bare copy of the same bytes, and with the same loop through zarr-python.

All run in one process, in turn; each ends with fsync of every file written; the source is in the file cache:

- *copy*: reads the bands that convert reads with `readinto`, and writes the same number of bytes to one file;
- *convert*: `--levels 1`, uncompressed, chunks and shards as `convert` chooses them;
- *zarr*: the same bands, chunks and shards, through an array of zarr-python with its default pipeline, uncompressed;
- *pyramid*: convert with its default levels.

The memory is measured in a separate process, without its libraries: it should be at most three shards and the band.

    python -m bench.converting --quick | --full
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr

from bench.memory import write_volume
from bench.timing import Finding, Size, compared, interleaved, run_script, seconds
from tomostream import defaults
from tomostream.budget import LIBRARIES_BYTES
from tomostream.geometry import Box
from tomostream.store.conversion import ConvertSettings, band_voxels_within, convert_file
from tomostream.store.decompress import peek_header
from tomostream.store.specification import StoreLayout, StoreSpec
from tomostream.store.z_bands import plan_bands
from tomostream.units import parse_bytes

MEMORY = parse_bytes(defaults.MEMORY, "--memory")
_HEADER = 1024
_IN_A_PROCESS = """
import sys
from pathlib import Path
from bench.converting import convert
from bench.timing import high_water_bytes
before = high_water_bytes()
convert(Path(sys.argv[1]), Path(sys.argv[2]), 1)
print(high_water_bytes() - before)
"""


def convert(source: Path, out: Path, levels: int | None) -> None:
    settings = ConvertSettings(codec="none", levels=levels)
    convert_file(source, out, settings, memory=MEMORY, overwrite=True, report=lambda _: None)


def flush(folder: Path) -> None:
    """Wait until every file of a folder is on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def measure(size: Size) -> list[Finding]:
    shape = (500, 1000, 1000) if size.is_full else (80, 300, 320)
    source, out = size.folder / "volume.mrc", size.folder / "out"
    write_volume(source, shape)
    flush(size.folder)  # otherwise the first round would wait for it
    header = peek_header(source)
    spec = StoreSpec("volume", shape, np.dtype(np.float32), 10.0, None, None, "none", 1)
    layout = StoreLayout.plan(spec)
    level = layout.levels[0]
    band_voxels = band_voxels_within(MEMORY, header, layout, libraries=LIBRARIES_BYTES)
    bands = [band.box for band in plan_bands(level.shards, most_voxels=band_voxels)]
    stored = sum(math.prod(-(-n // c) * c for n, c in zip(core.shape, level.chunk, strict=True)) for core in level.shards.cores())

    def fresh() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    def bytes_of(box: Box) -> np.ndarray:
        """Read a band plane by plane, since full rows are consecutive in the file."""
        band = np.empty(box.shape, dtype=np.float32)
        with source.open("rb", buffering=0) as file:
            for z, plane in enumerate(band, box.start[0]):
                file.seek(_HEADER + 4 * ((z * shape[1] + box.start[1]) * shape[2]))
                file.readinto(plane.reshape(-1).view(np.uint8))
        return band

    if any(box.shape[2] != shape[2] for box in bands):
        raise SystemExit("the bands don't span x: give more memory")

    def copy() -> None:
        padding = stored - math.prod(shape)
        with (out / "copy").open("wb", buffering=0) as file:
            for box in bands:
                file.write(bytes_of(box))
            while padding > 0:  # the store's chunks at the far ends are padded
                padding -= file.write(bytes(4 * min(padding, 2**20))) // 4
            os.fsync(file.fileno())

    def through_zarr() -> None:
        array = zarr.create_array(
            out / "zarr", shape=shape, dtype=np.float32, chunks=level.chunk, shards=level.shard, compressors=None, filters=None
        )
        for box in bands:
            array[box.slices] = bytes_of(box)
        flush(out)

    def ours(levels: int | None) -> None:
        convert(source, out, levels)
        flush(out)

    def timed(work: Callable[[], object]) -> Callable[[], float]:
        def run() -> float:
            fresh()
            return seconds(work)

        return run

    times = interleaved(
        {"copy": timed(copy), "convert": timed(lambda: ours(1)), "zarr": timed(through_zarr), "pyramid": timed(lambda: ours(None))},
        size.rounds,
    )
    fresh()
    name = "convert"
    edges = " x ".join(map(str, shape))
    command = [sys.executable, "-c", _IN_A_PROCESS, str(source), str(out)]
    taken = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    shard = 4 * math.prod(level.shards.core((0, 0, 0)).shape)
    band = 4 * max(math.prod(box.shape) for box in bands)
    return [
        compared(name, f"time of a bare copy / convert, {edges} float32, levels 1", times, "copy", "convert", target=0.5),
        compared(name, "time of the same loop through zarr-python / convert", times, "zarr", "convert", target=1.5),
        compared(name, "convert with its pyramid / with one level", times, "pyramid", "convert", target=1.8, is_least=False),
        Finding(name, f"memory / (3 shards + a band = {(3 * shard + band) / 1e6:.0f} MB)", taken / (3 * shard + band), 1.0, is_least=False),
    ]


if __name__ == "__main__":
    run_script(measure, __doc__)
