"""The input of one training step: crops, their labels, and a weight for each voxel.

Crops are drawn around labels as well as uniformly, so plain means over a batch are biased towards the neighbourhood of labels.  `weight`
corrects this: it is one over the voxel's expected number of inclusions in the epoch, scaled to a mean of about 1 over uniform crops.
Weighted means over any batches then estimate means over the volume (Horvitz-Thompson), whatever the mixture of crops.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float32


class Batch(NamedTuple):
    """N crops of one shape (z, y, x), for S species."""

    image: Float32[torch.Tensor, "n 1 z y x"]  # normalised densities
    positive: Bool[torch.Tensor, "n s z y x"]  # voxels of labelled particles, one channel per species
    weight: Float32[torch.Tensor, "n 1 z y x"]  # 1 / expected inclusions, relative; 0 leaves a voxel out (padding)
    is_labelled: Bool[torch.Tensor, " n"]  # whether the crop was drawn around a label; the others are uniform

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return the batch on a device."""
        return type(self)(*(part.to(device, non_blocking=non_blocking) for part in self))

    def corrected(self, negative: torch.Tensor) -> CorrectedBatch:
        """Return the batch with known negatives."""
        return CorrectedBatch(self.image, self.positive, self.weight, self.is_labelled, negative)


class CorrectedBatch(Batch):
    """A batch with a fifth part, `negative`: Bool (n, s, z, y, x), voxels of places that are known to be no particles."""

    __slots__ = ()

    def __new__(
        cls, image: torch.Tensor, positive: torch.Tensor, weight: torch.Tensor, is_labelled: torch.Tensor, negative: torch.Tensor
    ) -> CorrectedBatch:
        """Make the batch of its five parts."""
        return tuple.__new__(cls, (image, positive, weight, is_labelled, negative))

    @property
    def negative(self) -> Bool[torch.Tensor, "n s z y x"]:
        """Voxels of known negatives, one channel per species."""
        part: torch.Tensor = tuple.__getitem__(self, 4)
        return part
