"""How fast is exact picking, next to the paper's loop and to scikit-image's `peak_local_max`?

Gaussian particles at random places in white noise; radius 10 voxels, threshold 0.25, and the same number of picks by a count.  The
competitors run interleaved in one process, on one volume; `peak_local_max` (a cube's maximum filter) gives another answer, and is left
out where scikit-image is missing.  The paper's loop takes the argmax of the whole volume for each pick, so it is timed on its first
picks only and scaled to all of them.

    python bench/picking_speed.py [--quick] [--repeats N]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from tomostream.geometry import Triple
from tomostream.picking.blocks import pick_array

RADIUS, THRESHOLD, SIGMA, NOISE = 10.0, 0.25, 4.0, 0.03
MEMORY = 4 * 10**9
LOOP_PICKS = 40


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


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="a small volume")
    arguments.add_argument("--repeats", type=int, default=5)
    options = arguments.parse_args()
    shape, particles = ((96, 128, 128), 60) if options.quick else ((256, 512, 512), 1300)
    scores = particles_in_noise(shape, particles)
    n = len(pick_array(scores, radius=RADIUS, threshold=THRESHOLD, count=None, memory=MEMORY))
    contestants: dict[str, Callable[[], float]] = {
        "threshold": lambda: seconds(lambda: pick_array(scores, radius=RADIUS, threshold=THRESHOLD, count=None, memory=MEMORY)),
        "threshold, blocks of 128": lambda: seconds(
            lambda: pick_array(scores, radius=RADIUS, threshold=THRESHOLD, count=None, memory=MEMORY, block=(128, 128, 128))
        ),
        "count": lambda: seconds(lambda: pick_array(scores, radius=RADIUS, threshold=None, count=n, memory=MEMORY)),
        "the paper's loop (scaled)": lambda: papers_loop(scores, min(n, LOOP_PICKS)) * n / min(n, LOOP_PICKS),
    }
    try:
        from skimage.feature import peak_local_max
    except ImportError:
        print("scikit-image is missing: no peak_local_max (pip install scikit-image)")
    else:
        contestants["peak_local_max"] = lambda: seconds(lambda: peak_local_max(scores, min_distance=int(RADIUS), threshold_abs=THRESHOLD))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(2 if options.quick else options.repeats):
        for name, run in contestants.items():
            times[name].append(run())
    print(f"{'x'.join(map(str, shape))} float32, {n} picks, {np.count_nonzero(scores > THRESHOLD)} candidates")
    ours = statistics.median(times["threshold"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.3f} s | {min(values):.3f} to {max(values):.3f} | {median / ours:.1f} x |")


if __name__ == "__main__":
    main()
