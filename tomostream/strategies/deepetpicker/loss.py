"""The soft Dice loss of DeepETPicker, which measures the overlap of scores and labels.

    L = 1 - (2 sum p y + e) / (sum p + sum y + e)

where p are the scores and y the labels of one species, over the voxels of a batch.  Every unlabelled voxel counts as background, as in PN, but the
many background voxels don't outweigh the labels.

As in DeepETPicker, crops are all drawn around labels and are not re-weighted to the whole volume, so the scores are not probabilities.

References
----------
Milletari, Navab, Ahmadi 2016, "V-Net" (the loss); Liu et al. 2024, "DeepETPicker", Nature Communications 15, 2090.
"""

from dataclasses import dataclass

import torch

from tomostream.learn.objectives import Expectations, Loss

_SMOOTHING = 1.0  # e, in voxels: avoids division by zero; a batch without labels and scores has zero loss


@dataclass(frozen=True, slots=True)
class Dice:
    """The soft Dice loss of one species."""

    def __call__(self, means: Expectations) -> Loss:
        """Compute the loss of one batch; voxels of weight 0 are left out."""
        label = (means.labelled > 0).float()
        score = torch.sigmoid(means.logits) * ((means.labelled + means.unlabelled) > 0)
        overlap = (2 * means.total(score * label) + _SMOOTHING) / (means.total(score) + means.total(label) + _SMOOTHING)
        return Loss(1 - overlap, {"dice": overlap})
