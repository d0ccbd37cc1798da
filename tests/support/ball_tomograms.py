"""Small tomograms of dark balls in noise, as MRC files."""

from pathlib import Path

import mrcfile
import numpy as np

SPACING = 10.0
RADIUS_VOX = 6.0
SHAPE = (48, 160, 160)


def ball_positions(seed: int, number: int = 14) -> np.ndarray:
    """Centres (z y x, voxels) that lie two radii apart."""
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    while len(found) < number:
        point = rng.uniform([8, 10, 10], [40, 150, 150])
        if all(np.linalg.norm(point - other) > 2.2 * RADIUS_VOX for other in found):
            found.append(point)
    return np.array(found)


def ball_volume(positions: np.ndarray, seed: int) -> np.ndarray:
    """Noise with dark balls."""
    rng = np.random.default_rng(seed)
    volume = rng.normal(scale=1.0, size=SHAPE).astype(np.float32)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), axis=-1)
    for point in positions:
        volume[((grid - point) ** 2).sum(axis=-1) < RADIUS_VOX**2] -= 1.5
    return volume


def write_mrc(path: Path, volume: np.ndarray, spacing: float = SPACING) -> None:
    with mrcfile.new(path) as file:
        file.set_data(volume)
        file.voxel_size = spacing
