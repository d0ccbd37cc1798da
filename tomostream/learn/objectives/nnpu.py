"""nnPU: the risk over unlabelled voxels, minus the part of the particles hidden among them (Kiryo et al. 2017)."""

from dataclasses import dataclass

import torch

from tomostream.learn.objectives.risk import Expectations, Kind, Loss


@dataclass(frozen=True, slots=True)
class NonNegative:
    """nnPU: the risk over unlabelled voxels, minus the part of the hidden particles; the rest must not be negative."""

    labelled_fraction: float  # pi
    expected_fraction: float  # pi'

    def __call__(self, means: Expectations) -> Loss:
        """Estimate the risk; if the background's part is negative, return its opposite, so that the step raises it."""
        unlabelled = means.over_unlabelled(means.loss_if_negative)
        if not means.has_labelled:
            return Loss((1 - self.labelled_fraction) * unlabelled, {"unlabelled_negative": unlabelled})
        positive = means.over_labelled(means.loss_if_positive)
        negative = means.over_labelled(means.loss_if_negative)
        background = (1 - self.labelled_fraction) * unlabelled - (self.expected_fraction - self.labelled_fraction) * negative
        is_violated = bool(background < 0)
        total = -background if is_violated else self.expected_fraction * positive + background
        violated = torch.tensor(float(is_violated))
        return Loss(
            total, {"unlabelled_negative": unlabelled, "labelled_positive": positive, "labelled_negative": negative, "violated": violated}
        )


OBJECTIVE = Kind(
    "nnpu", needs_prior=True, is_proportional=True, risk=lambda prior: NonNegative(prior.labelled_fraction, prior.expected_fraction)
)
