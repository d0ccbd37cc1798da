"""The soft Dice loss of DeepETPicker: how far scores and labels overlap.

    L = 1 - (2 sum p y + e) / (sum p + sum y + e)

with p the scores and y the labels of a batch's voxels, of one species.  Every voxel without label counts as background, as in PN, but the
sum over the labels is never drowned by the many background voxels.

As in DeepETPicker it takes the crops as they come, all of them around labels: it is not re-weighted to the whole volume, and the scores are
not probabilities.

References
----------
Milletari, Navab, Ahmadi 2016, "V-Net" (the loss); Liu et al. 2024, "DeepETPicker", Nature Communications 15, 2090.
"""

from dataclasses import dataclass

import torch

from tomostream.learn.objectives import Expectations, Loss

_SMOOTHING = 1.0  # e, voxels: a batch without label and score has no loss, and no division by zero


@dataclass(frozen=True, slots=True)
class Dice:
    """1 - the Dice overlap of scores and labels of one species."""

    def __call__(self, means: Expectations) -> Loss:
        """Evaluate the loss on one batch; voxels of weight 0 are left out."""
        label = (means.labelled > 0).float()
        score = torch.sigmoid(means.logits) * ((means.labelled + means.unlabelled) > 0)
        overlap = (2 * means.total(score * label) + _SMOOTHING) / (means.total(score) + means.total(label) + _SMOOTHING)
        return Loss(1 - overlap, {"dice": overlap})
