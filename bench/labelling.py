"""How fast are label masks?  100 particles in 28 million voxels, compared with a mask of the whole grid for each particle.

- *whole grid*: the method of the original software, from the paper: for each particle the distance of every voxel, compared with the
  radius, and the union of all.  Timed on a few particles and scaled to all.
- *labels*: the whole mask in one array.
- *lazy*: the Dask array of the mask, computed.
- *lazy, no particles*: the same array without particles, its blocks computed but not joined: the time of a block that no particle touches.

    python -m bench.labelling --quick | --full
"""

from __future__ import annotations

import dask
import dask.array
import numpy as np

from bench.timing import Finding, Size, compared, interleaved, run_script, seconds
from tomostream import defaults
from tomostream.geometry import Box, triple
from tomostream.graph.label_arrays import label_array
from tomostream.masks import mask_of_box

RADIUS, SHAPE = 10.0, "sphere"


def measure(size: Size) -> list[Finding]:
    volume = (112, 500, 500) if size.is_full else (64, 128, 128)
    points = np.random.default_rng(0).uniform(0, volume, (100, 3))
    timed = 4 if size.is_full else 2
    chunks = triple(defaults.CHUNK_VOX)

    def whole_grid() -> float:
        def work() -> None:
            mask = np.zeros(volume, dtype=bool)
            for point in points[:timed]:
                z, y, x = np.meshgrid(*(np.arange(n) - p for n, p in zip(volume, point, strict=True)), indexing="ij")
                mask |= z**2 + y**2 + x**2 <= RADIUS**2

        return seconds(work) * len(points) / timed

    def labels() -> np.ndarray:
        return mask_of_box(Box.whole(volume), points, radius=RADIUS, shape=SHAPE, volume=volume)

    def lazy(where: np.ndarray) -> dask.array.Array:
        return label_array(where, shape=volume, radius=RADIUS, kind=SHAPE, chunks=chunks)

    def empty_blocks() -> None:
        blocks = dask.compute(*lazy(points[:0]).to_delayed().ravel(), scheduler="synchronous")
        if any(any(block.strides) for block in blocks):
            raise SystemExit("a block without particles takes memory")

    lazy(points).compute(scheduler="synchronous")
    labels()
    times = interleaved(
        {
            "whole grid, scaled": whole_grid,
            "labels": labels,
            "lazy": lambda: lazy(points).compute(scheduler="synchronous"),
            "lazy, no particles": empty_blocks,
        },
        size.rounds,
    )
    name, voxels = "labels", f"100 particles in {np.prod(volume) / 1e6:.1f} Mvox"
    blocks = int(np.prod([-(-n // c) for n, c in zip(volume, chunks, strict=True)]))
    empty = min(times["lazy, no particles"]) / blocks * 1e6
    return [
        compared(name, f"a mask of the whole grid a particle / labels, {voxels}", times, "whole grid, scaled", "labels", target=1000),
        compared(name, "the same / the lazy array, computed", times, "whole grid, scaled", "lazy", target=1000),
        Finding(name, f"a block that no particle touches ({blocks} blocks)", empty, unit="us", times={"": times["lazy, no particles"]}),
    ]


if __name__ == "__main__":
    run_script(measure, __doc__)
