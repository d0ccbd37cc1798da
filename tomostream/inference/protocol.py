"""`BlockScorer`, the interface of prediction: what must be read for a box, what that costs, and the logits in the box.

This is all that `predict` knows of a strategy: the U-Net, a matched filter, a detector on slices and a network on fixed patches all fit.
The same `needed` box must give the same bits whatever else is scored, or chunk boundaries would show.  A scorer whose result depends on
position (patches on a grid) must anchor its grid at the volume's first voxel.
"""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from tomostream.geometry import Box, Triple


@runtime_checkable  # the tests check every annotation
class BlockScorer(Protocol):
    """Compute logits of boxes of a standardised volume, at the pyramid level that the scorer reads."""

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
        """Return the projected peak of scoring `needed`, bytes: voxels read, intermediate values and logits; without libraries."""

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Compute the logits of `needed`.

        Parameters
        ----------
        image
            Standardised densities of `read`, the box that `read_box` returned.
        needed, shape
            As for `read_box`.
        """


@runtime_checkable
class StreamingScorer(BlockScorer, Protocol):
    """A scorer that can compute its logits a few planes at a time, so that they are never held twice."""

    def planes(
        self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple
    ) -> Iterator[tuple[int, Float32[np.ndarray, "s Z Y X"]]]:
        """Yield the logits of `needed` in parts: the index of the first plane (from `needed`'s start), and some planes.

        The parameters are those of `BlockScorer.logits`.
        """
