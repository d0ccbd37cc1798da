"""`BlockScorer`, the interface that prediction needs: what is read for a box, what that costs, and the logits there.

`predict` knows nothing else of a strategy: the U-Net, a matched filter, a detector on slices and a network on fixed patches all fit.  The
same `needed` box must give the same bits whatever else is scored, or chunk boundaries would show; a scorer whose answer depends on position
(patches on a grid) anchors its grid at the volume's first voxel.
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from tomostream.errors import BudgetError
from tomostream.geometry import Box, Triple


@runtime_checkable  # the tests check every annotation
class BlockScorer(Protocol):
    """Gives logits of boxes of a standardised volume, at the pyramid level that it reads."""

    @property
    def species(self) -> int:
        """Number of outputs."""

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """Return the voxels that the logits of `needed` depend on.

        Parameters
        ----------
        needed
            Voxels of the level, inside the volume.
        shape
            Of the volume at that level.

        Returns
        -------
        Box
            Begins inside the volume; may leave it at its far ends, where the last voxels are repeated.
        """

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Projected peak of scoring `needed`, bytes: what is read, intermediate values and the logits; without libraries."""

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Logits of `needed`.

        Parameters
        ----------
        image
            Standardised densities of `read`, the box that `read_box` gave.
        needed, shape
            As of `read_box`.
        """


class DeviceMemoryError(BudgetError):
    """A block did not fit into the GPU's memory; a smaller one may."""


@runtime_checkable
class StreamingScorer(BlockScorer, Protocol):
    """A scorer that can give its logits plane by plane, so that they never exist twice."""

    def planes(
        self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple
    ) -> Iterator[tuple[int, Float32[np.ndarray, "s Z Y X"]]]:
        """Logits of `needed` as they come: pairs of the first plane, from `needed`'s start, and some planes; see `BlockScorer.logits`."""
