"""A tomogram of a run at a coarse level, read in small boxes: before it is converted too.

Limits: packed and remote MRC files can't be read in parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomostream.geometry import Box, Triple, triple
from tomostream.mrc_volume import open_mrc
from tomostream.remote.places import RemotePath, place
from tomostream.store.decompress import compression_of
from tomostream.store.pyramid import level_shape, mean_pooled, rounded_to
from tomostream.tomogram import open_tomogram

Read = Callable[[Box], np.ndarray]  # raw voxels of a box inside the volume


@dataclass(frozen=True, slots=True, eq=False)
class CoarseVolume:
    """A tomogram at a level.

    Parameters
    ----------
    name
        Of the tomogram.
    shape
        Voxels z y x at this level.
    level
        Pyramid level.
    read
        Of this level.
    """

    name: str
    shape: Triple
    level: int
    read: Read

    def at_level(self, points: np.ndarray) -> np.ndarray:
        """Positions (n, 3; z y x) in voxels of level 0, in voxels of this level."""
        level: np.ndarray = (points + 0.5) / 2**self.level - 0.5
        return level

    def cube(self, position: np.ndarray, half: int) -> np.ndarray:
        """Voxels about the nearest voxel of a position of this level, float32 of edge 2 half + 1; NaN beyond the volume."""
        start = triple([int(v) - half for v in np.rint(position)])
        box = Box(start, triple([a + 2 * half + 1 for a in start]))
        cube = np.full(box.shape, np.nan, dtype=np.float32)
        inside = box.clipped(Box.whole(self.shape))
        if not inside.is_empty:
            cube[inside.relative_to(box.start).slices] = self.read(inside)
        return cube


def coarse_volume(path: str, store: str, name: str, level: int, voxel_size: float | None) -> CoarseVolume | None:
    """Open a tomogram at a level: its store if that is there, else its MRC file; None where neither can be read in parts.

    Parameters
    ----------
    path, store
        As the configuration names it, and what it is or will be converted to.
    name
        Of the tomogram.
    level
        Pyramid level; the values are those of the store's pyramid.
    voxel_size
        Angstrom, where the files have none.

    Raises
    ------
    InputError
        If it can't be read.
    """
    if path == store or place(store).exists():
        tomogram = open_tomogram(store, voxel_size=voxel_size)
        level = min(level, (max(tomogram.shape) - 1).bit_length())
        tomogram = tomogram.at_level(level)
        return CoarseVolume(name, tomogram.shape, level, tomogram.read)
    file = place(path)
    if isinstance(file, RemotePath) or compression_of(Path(file)) is not None:
        return None
    source = open_mrc(Path(file), voxel_size=voxel_size)
    factor = 2**level

    def read(box: Box) -> np.ndarray:
        fine = Box(triple([a * factor for a in box.start]), triple([b * factor for b in box.stop])).clipped(Box.whole(source.shape))
        voxels = source.read(fine)
        for _ in range(level):
            voxels = rounded_to(mean_pooled(voxels), source.dtype)
        return voxels

    return CoarseVolume(name, level_shape(source.shape, level), level, read)
