"""Volumes for the tests of `tomostream.stream`: an array in memory that records what is read of it."""

from dataclasses import dataclass, field

import numpy as np

from tomostream.geometry import Box, Triple


@dataclass(eq=False)
class ArrayVolume:
    """A volume whose voxel at linear index i is the number i; a spy that records the boxes that are read."""

    shape: Triple
    chunk: Triple
    reads: list[Box] = field(default_factory=list)

    def read_standardised(self, box: Box, *, out: np.ndarray) -> np.ndarray:
        self.reads.append(box)
        out[...] = self.voxels(box)
        return out

    def voxels(self, box: Box) -> np.ndarray:
        """What it holds."""
        z, y, x = np.ogrid[box.slices]
        return ((z * self.shape[1] + y) * self.shape[2] + x).astype(np.float32)

    def times_read(self) -> np.ndarray:
        """How often each voxel was read."""
        counts = np.zeros(self.shape, dtype=int)
        for box in self.reads:
            counts[box.slices] += 1
        return counts
