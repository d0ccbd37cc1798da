"""How fast is exact picking, compared with the paper's loop and with scikit-image's `peak_local_max`?

Gaussian particles at random places in white noise; radius 10 voxels.  In turn, in one process, on one volume:

- *threshold*: all picks above 0.25; *count*: as many, without a threshold; *blocks of 128*: by threshold again, in small blocks;
- *the paper's loop*: find the argmax of the whole volume, erase its ball, and repeat; timed on some picks and scaled to all;
- *peak_local_max* of scikit-image, if it is installed: a maximum filter over a cube, so the picks are not the same;
- *from Zarr*: the picks by threshold of a score map on disk (in the file cache), compared with reading it alone in the same blocks.

    python -m bench.picking_speed --quick | --full
"""

from __future__ import annotations

import importlib.util
import time
from dataclasses import replace

import numpy as np

from bench.timing import Finding, Size, compared, interleaved, run_script
from tomostream import defaults
from tomostream.budget import LIBRARIES_BYTES
from tomostream.geometry import BlockGrid, Box, Triple, triple
from tomostream.picking.blocks import pick_volume
from tomostream.picking.how_many import Above, Best
from tomostream.picking.planning import plan_blocks
from tomostream.picking.protocol import Execution, PickRequest, Source
from tomostream.store.omezarr import StoreSpec, StoreWriter
from tomostream.tomogram import Tomogram, open_tomogram
from tomostream.units import parse_bytes

RADIUS, THRESHOLD, SIGMA, NOISE = 10.0, 0.25, 4.0, 0.03
MEMORY = parse_bytes(defaults.MEMORY, "--memory")


def particles_in_noise(shape: Triple, particles: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    volume = NOISE * rng.standard_normal(shape, dtype=np.float32)
    for _ in range(particles):
        centre = [int(rng.integers(0, n)) for n in shape]
        ranges = [np.arange(max(0, c - 15), min(n, c + 16)) for c, n in zip(centre, shape, strict=True)]
        z, y, x = (np.exp(-((at - c) ** 2) / (2 * SIGMA**2)).astype(np.float32) for at, c in zip(ranges, centre, strict=True))
        part = volume[tuple(slice(at[0], at[-1] + 1) for at in ranges)]
        part += rng.uniform(0.5, 1.0) * z[:, None, None] * y[:, None] * x
    return volume


def papers_loop(scores: np.ndarray, limit: int) -> float:
    """Return the seconds of `limit` picks: argmax of the whole volume, then erase the ball."""
    scores = scores.copy()
    start = time.perf_counter()
    for _ in range(limit):
        at = np.unravel_index(int(scores.argmax()), scores.shape)
        ranges = [np.arange(max(0, c - 10), min(n, c + 11)) for c, n in zip(at, scores.shape, strict=True)]
        z, y, x = ((axis - c) ** 2 for axis, c in zip(ranges, at, strict=True))
        near = z[:, None, None] + y[:, None] + x <= RADIUS**2
        scores[tuple(slice(axis[0], axis[-1] + 1) for axis in ranges)][near] = -np.inf
    return time.perf_counter() - start


def stored(scores: np.ndarray, size: Size) -> Tomogram:
    """Write the scores as a store."""
    path = size.folder / f"scores-{scores.shape[0]}.ome.zarr"
    spec = StoreSpec(path.name.split(".")[0], triple(scores.shape), scores.dtype, 10.0, None, None, "none", 1, {"kind": "scores"})
    with StoreWriter.create_or_resume(path, spec, fingerprint={"made": "for a benchmark"}, overwrite=False) as writer:
        for index in writer.pending():
            writer.write(index, scores[writer.shards.core(index).slices])
            writer.mark_done(index)
        writer.finish()
    return open_tomogram(path)


def compare(size: Size, shape: Triple, particles: int, *, loop_picks: int, goal: float, goal_local_max: float | None) -> list[Finding]:
    scores = particles_in_noise(shape, particles)
    source = stored(scores, size)
    request = PickRequest(radius=RADIUS, how_many=Above(THRESHOLD))
    array, store = Source.of(scores), Source(source.read, shape)
    execution = Execution(memory=4 * scores.nbytes + MEMORY)  # the volume itself is already in memory
    picks = pick_volume(array, request, execution)
    n = len(picks)
    blocks = plan_blocks(
        shape, block=None, halo=None, radius=RADIUS, smooth=0.0, memory=MEMORY, libraries=LIBRARIES_BYTES, workers=1
    )  # fmt: skip

    def reading() -> None:
        for core in BlockGrid(shape, blocks.block).cores():
            source.read(core.expanded(blocks.halo).clipped(Box.whole(shape)))

    contestants = {
        "threshold": lambda: pick_volume(array, request, execution),
        "count": lambda: pick_volume(array, replace(request, how_many=Best(n)), execution),
        "blocks of 128": lambda: pick_volume(array, request, replace(execution, block=(128, 128, 128))),
        "the paper's loop, scaled": lambda: papers_loop(scores, min(n, loop_picks)) * n / min(n, loop_picks),
        "reading": reading,
        "from Zarr": lambda: pick_volume(store, request, Execution(memory=MEMORY)),
    }
    with_local_max = goal_local_max is not None and importlib.util.find_spec("skimage") is not None
    if with_local_max:
        from skimage.feature import peak_local_max

        contestants["peak_local_max"] = lambda: peak_local_max(scores, min_distance=int(RADIUS), threshold_abs=THRESHOLD)
    times = interleaved(contestants, size.rounds)
    if [tuple(p) for p in pick_volume(store, request, Execution(memory=MEMORY)).index_zyx] != [tuple(p) for p in picks.index_zyx]:
        raise SystemExit("picks from the store and from memory differ")
    name, what = "pick", f"{' x '.join(map(str, shape))} float32, {n} picks"
    found = [
        compared(name, f"the paper's loop / by threshold, {what}", times, "the paper's loop, scaled", "threshold", target=goal),
        compared(name, "by count / by threshold", times, "count", "threshold", target=2.0, is_least=False),
        compared(
            name,
            f"from Zarr, blocks of {' x '.join(map(str, blocks.block))} / reading them",
            times,
            "from Zarr",
            "reading",
            target=2.0,
            is_least=False,
        ),
    ]
    if with_local_max:
        found.append(compared(name, "peak_local_max / by threshold", times, "peak_local_max", "threshold", target=goal_local_max))
    return found


def measure(size: Size) -> list[Finding]:
    if not size.is_full:
        return compare(size, (64, 128, 128), 40, loop_picks=20, goal=15, goal_local_max=6)
    small = compare(size, (256, 512, 512), 1300, loop_picks=40, goal=15, goal_local_max=6)
    return [*small, *compare(size, (500, 1000, 1000), 3600, loop_picks=8, goal=150, goal_local_max=None)]


if __name__ == "__main__":
    run_script(measure, __doc__)
