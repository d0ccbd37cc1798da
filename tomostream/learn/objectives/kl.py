"""KL: E_P[L(f,1)], and a divergence that pulls the mean score of the unlabelled voxels to the prior (Topaz's GE-KL)."""

import math
from dataclasses import dataclass

import torch

from tomostream.learn.objectives.risk import FLOOR, Expectations, Kind, Loss


@dataclass(frozen=True, slots=True)
class Divergence:
    """KL: labelled voxels should be positive, and the mean score of the unlabelled ones should be the prior."""

    prior: float  # pi''
    weight: float
    order: str  # prior_to_pu or pu_to_prior

    def __call__(self, means: Expectations) -> Loss:
        """Estimate E_P[L(f,1)] + weight KL."""
        # 1 - E_U[f], from the sigmoid of the negative logit, because float32 resolves small values better than those near 1
        score = means.over_unlabelled(torch.sigmoid(means.logits)) * (1 - 2 * FLOOR) + FLOOR
        rest = means.over_unlabelled(torch.sigmoid(-means.logits)) * (1 - 2 * FLOOR) + FLOOR
        p = self.prior
        if self.order == "prior_to_pu":
            divergence = p * (math.log(p) - score.log()) + (1 - p) * (math.log(1 - p) - rest.log())
        else:
            divergence = score * (score.log() - math.log(p)) + rest * (rest.log() - math.log(1 - p))
        total = self.weight * divergence
        terms = {"divergence": divergence, "unlabelled_score": score}
        if means.has_labelled:
            positive = means.over_labelled(means.loss_if_positive)
            total = total + positive
            terms["labelled_positive"] = positive
        return Loss(total, terms)


OBJECTIVE = Kind(
    "kl", needs_prior=True, is_proportional=False, risk=lambda prior: Divergence(prior.of_unlabelled, prior.weight, prior.order)
)
