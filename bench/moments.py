"""Are statistics nearly as fast as reading?  Compare each pass with reading the blocks alone, and Dask with a plain loop.

All run in one process with one thread, in turn, on a converted store in the file cache, with the same blocks:

- *read*: reads every block, and does nothing with it;
- *pass 1*, *pass 2*: read every block and compute its moments, raw and clipped;
- *count alone*: numpy's `bincount` of as many int16 voxels that lie in the cache, the floor of an exact histogram;
- *dask*: all of `statistics_of`, which takes two passes, or one for int16.

    python -m bench.moments --quick | --full
"""

from __future__ import annotations

from functools import reduce

import dask
import dask.threaded
import numpy as np

from bench.timing import Finding, Size, compared, interleaved, run_script
from tomostream import defaults
from tomostream.geometry import BlockGrid, triple
from tomostream.graph.lazy_arrays import as_dask
from tomostream.graph.moments import statistics_of
from tomostream.moments import Histogram, Moments
from tomostream.stages.voxel_statistics.stage import STATS_BLOCK_BYTES
from tomostream.store.omezarr import StoreSpec, StoreWriter
from tomostream.tomogram import Tomogram, open_tomogram


def made_up(size: Size, dtype: type, shape: tuple[int, int, int]) -> Tomogram:
    """Make a store of noise, or open it if it exists."""
    path = size.folder / f"{np.dtype(dtype)}-{shape[0]}-{shape[1]}-{shape[2]}.ome.zarr"
    if path.exists():
        return open_tomogram(path)
    spec = StoreSpec(path.name.split(".")[0], shape, np.dtype(dtype), 10.0, None, None, "none", 1, {})
    rng = np.random.default_rng(0)
    with StoreWriter.create_or_resume(path, spec, fingerprint={"made": "for a benchmark"}, overwrite=False) as writer:
        for index in writer.pending():
            noise = rng.standard_normal(writer.shards.core(index).shape, dtype=np.float32)
            writer.write(index, noise if dtype is np.float32 else (1000 * noise).astype(dtype))
            writer.mark_done(index)
        writer.finish()
    return open_tomogram(path)


def measure(size: Size) -> list[Finding]:
    shape = (500, 1000, 1000) if size.is_full else (128, 256, 256)
    edges = " x ".join(map(str, shape))
    name, sigma = "stats", defaults.CLIP_SIGMA

    def blocks(tomogram: Tomogram) -> BlockGrid:
        return BlockGrid(tomogram.shape, triple([chunks[0] for chunks in as_dask(tomogram, block_bytes=STATS_BLOCK_BYTES).chunks]))

    def read(tomogram: Tomogram) -> None:
        for box in blocks(tomogram).cores():
            tomogram.read(box)

    def whole(tomogram: Tomogram) -> None:
        with dask.config.set(scheduler=dask.threaded.get, num_workers=1):
            statistics_of(as_dask(tomogram, block_bytes=STATS_BLOCK_BYTES), clip_sigma=sigma)

    floats, integers = made_up(size, np.float32, shape), made_up(size, np.int16, shape)
    raw = reduce(Moments.merge, (Moments.of(floats.read(box)) for box in blocks(floats).cores()))
    known = {"mean": raw.mean, "std": raw.std, "clip_sigma": sigma, "is_finite": raw.count == raw.total}

    def pass_1() -> None:
        reduce(Moments.merge, (Moments.of(floats.read(box)) for box in blocks(floats).cores()))

    def pass_2() -> None:
        reduce(Moments.merge, (Moments.clipped(floats.read(box), **known) for box in blocks(floats).cores()))

    def counted() -> None:
        reduce(Histogram.merge, (Histogram.of(integers.read(box)) for box in blocks(integers).cores()))

    cached = np.random.default_rng(0).integers(0, 2**16, 2**16, dtype=np.uint16)
    pieces = -(-floats.shape[0] * floats.shape[1] * floats.shape[2] // cached.size)

    def count_alone() -> None:
        for _ in range(pieces):
            np.bincount(cached, minlength=2**16)

    times = interleaved(
        {
            "read": lambda: read(floats),
            "pass 1": pass_1,
            "pass 2": pass_2,
            "dask": lambda: whole(floats),
            "read int16": lambda: read(integers),
            "count int16": counted,
            "count alone": count_alone,
            "dask int16": lambda: whole(integers),
        },
        size.rounds,
    )
    return [
        compared(name, f"reading / pass 1 (raw), {edges} float32", times, "read", "pass 1", target=0.6),
        compared(name, "reading / pass 2 (clipped)", times, "read", "pass 2", target=0.6),
        compared(name, "Dask, both passes / a plain loop", times, "dask", ("pass 1", "pass 2"), target=1.2, is_least=False),
        compared(name, f"reading / counting, {edges} int16, one pass", times, "read int16", "count int16", target=0.6),
        compared(
            name,
            "reading, and numpy's count of voxels in the cache, int16: reading / both",
            times,
            "read int16",
            ("read int16", "count alone"),
        ),
        compared(name, "Dask / a plain loop, int16", times, "dask int16", "count int16", target=1.2, is_least=False),
    ]


if __name__ == "__main__":
    run_script(measure, __doc__)
