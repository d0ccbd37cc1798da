"""Read boxes of an array as of a tomogram: voxels outside of it are 0."""

from collections.abc import Callable

import numpy as np

from tomostream.geometry import Box


def reader_of(volume: np.ndarray) -> Callable[[Box], np.ndarray]:
    """Return a function that reads boxes of a float32 volume (z, y, x), which may leave it."""

    def read(box: Box) -> np.ndarray:
        result = np.zeros(box.shape, dtype=np.float32)
        inside = box.clipped(Box.whole(volume.shape))
        if not inside.is_empty:
            result[inside.relative_to(box.start).slices] = volume[inside.slices]
        return result

    return read
