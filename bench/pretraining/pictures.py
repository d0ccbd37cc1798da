"""Draw slices of simulated tomograms, side by side."""

from pathlib import Path

import numpy as np
import torch

from bench.pretraining.simulating import Batch


def write_slices(path: Path, batch: Batch, *, scale: int = 3) -> None:
    """Draw one row per tomogram: x-y and x-z of the image, then of the clean density.

    Parameters
    ----------
    path
        PNG file.
    scale
        Pixels per voxel.
    """
    from PIL import Image

    rows = []
    for group in range(batch.image.shape[0]):
        for tomogram in range(batch.image.shape[1]):
            image, clean = (part[group, tomogram, 0].float().cpu().numpy() for part in (batch.image, batch.clean))
            middle = len(image) // 2
            cuts = [image[middle], image[middle + 6], image[:, middle], 0.7 - clean[middle], 0.7 - clean[:, middle]]
            rows.append(np.hstack([np.pad(cut, 1, constant_values=3) for cut in cuts]))
    grey = ((np.clip(np.vstack(rows), -2.5, 2.5) + 2.5) / 5 * 255).astype(np.uint8)
    Image.fromarray(np.kron(grey, np.ones((scale, scale), np.uint8))).save(path)


def show(sizes: object, seed: int, path: Path, device: torch.device) -> None:
    """Simulate one batch, and write its slices."""
    from bench.pretraining.simulating import Sizes, simulate

    assert isinstance(sizes, Sizes)
    write_slices(path, simulate(sizes, torch.Generator(device).manual_seed(seed)))
