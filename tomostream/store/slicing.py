"""How can a reader of boxes look like an array to dask?

Dask indexes with integers and slices, because it merges a user's slicing into the reading of a block.  The box from the first to the last
needed voxel is read, then the steps are applied.

Limits: integers and slices only; no lists.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tomostream.geometry import Box, Triple, triple


@dataclass(frozen=True, slots=True)
class SlicedByBox:
    """A lazy array of three axes.

    Parameters
    ----------
    read
        Reads the voxels of a box; can be pickled.
    shape, dtype
        Of the whole.
    """

    read: Callable[[Box], np.ndarray]
    shape: Triple
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return 3

    def __getitem__(self, index: tuple[int | slice, ...]) -> np.ndarray:
        ranges = [range(n)[i] if isinstance(i, slice) else range(i, i + 1) for n, i in zip(self.shape, index, strict=True)]
        start = triple([min(r, default=0) for r in ranges])
        box = Box(start, triple([max(r, default=-1) + 1 for r in ranges]))
        # the box ends where the slices do, so only the steps remain to be applied
        within = tuple(slice(None, None, r.step) if isinstance(i, slice) else 0 for i, r in zip(index, ranges, strict=True))
        block: np.ndarray = self.read(box)[within]
        return block
