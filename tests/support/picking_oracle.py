"""The sequential greedy loop as the paper states it, and volumes on which shortcuts go wrong."""

from __future__ import annotations

import numpy as np


def greedy_loop(scores: np.ndarray, radius: float, threshold: float = -np.inf, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Visit voxels above the threshold by descending score, then ascending index; keep one unless a kept one is within the radius."""
    flat = scores.astype(np.float64).ravel()
    candidates = [i for i in np.lexsort((np.arange(flat.size), -flat)) if flat[i] > threshold]
    place = np.stack(np.unravel_index(np.arange(flat.size), scores.shape), axis=1)
    kept = np.empty((len(candidates), 3), dtype=np.int64)
    score = np.empty(len(candidates))
    n = 0
    for i in candidates:
        if n == count:
            break
        if n == 0 or ((kept[:n] - place[i]) ** 2).sum(axis=1).min() > radius * radius:
            kept[n], score[n] = place[i], flat[i]
            n += 1
    return kept[:n], score[:n]


def _white(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def _ties(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, 3, shape).astype(rng.choice(["u1", "i2", "f4", "f8", ">f4"]))


def _plateaus(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.clip(_blobs(rng, shape) * 3, 0, 1).round(1)


def _ramp(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    z, y, x = np.indices(shape)
    return (z * rng.integers(-2, 3) + y * rng.integers(-2, 3) + x * rng.integers(-2, 3)).astype(np.float64) / 4


def _missing(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    values = _white(rng, shape)
    return np.where(rng.random(shape) < 0.4, rng.choice(np.float32([np.nan, -np.inf, np.inf]), shape), values)


def _blobs(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    values = np.zeros(shape, dtype=np.float32)
    grid = np.indices(shape)
    for _ in range(12):
        centre = rng.uniform(0, shape)[:, None, None, None]
        values += rng.uniform(0.3, 1) * np.exp(-((grid - centre) ** 2).sum(axis=0) / 8).astype(np.float32)
    return values


def _half(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return _blobs(rng, shape).astype(np.float16)


def _boolean(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.random(shape) < 0.3


VOLUMES = {
    "white noise": _white,
    "heavy ties": _ties,
    "plateaus": _plateaus,
    "ramp": _ramp,
    "NaN and infinities": _missing,
    "crowded blobs": _blobs,
    "half precision": _half,
    "boolean": _boolean,
}
