"""GE-binomial: E_P[L(f,1)], and the cross-entropy of the number of particles among the unlabelled voxels (Topaz)."""

import math
from dataclasses import dataclass

import torch

from tomostream.errors import InputError
from tomostream.learn.objectives.risk import FLOOR, Expectations, Kind, Loss, Prior, Risk


@dataclass(frozen=True, slots=True)
class Binomial:
    """GE-binomial: the number of particles among the unlabelled voxels should be distributed as independent draws with the prior are."""

    prior: float  # pi''
    weight: float
    particle_voxels: float  # volume of a particle; one draw stands for so many voxels

    def __call__(self, means: Expectations) -> Loss:
        """Estimate E_P[L(f,1)] + weight H / n; H is divided by the draws so that the weight means the same for any batch."""
        score = torch.sigmoid(means.logits)
        mean = means.over_unlabelled(score)
        spread = means.over_unlabelled(score * torch.sigmoid(-means.logits))
        draws = max(1, round(float(means.total(means.unlabelled > 0)) / self.particle_voxels))
        counts = torch.arange(draws + 1, dtype=torch.float32, device=mean.device)
        # the distribution of the count that the scores imply (Poisson-binomial), as a discretised Gaussian
        posterior = torch.softmax(-((counts - draws * mean) ** 2) / (2 * (draws * spread + FLOOR)), dim=0)
        whole = torch.tensor(float(draws), device=mean.device)
        log_binomial = (
            torch.lgamma(whole + 1)
            - torch.lgamma(counts + 1)
            - torch.lgamma(whole - counts + 1)
            + counts * math.log(self.prior)
            + (whole - counts) * math.log1p(-self.prior)
        )
        entropy = -(posterior * log_binomial).sum() / draws
        total = self.weight * entropy
        terms = {"count_entropy": entropy, "unlabelled_score": mean}
        if means.has_labelled:
            positive = means.over_labelled(means.loss_if_positive)
            total = total + positive
            terms["labelled_positive"] = positive
        return Loss(total, terms)


def _risk(prior: Prior) -> Risk:
    if prior.particle_voxels is None or not prior.particle_voxels > 0:
        raise InputError(f"objective ge_binomial needs the volume of a particle of each species in voxels, found {prior.particle_voxels}")
    return Binomial(prior.of_unlabelled, prior.weight, prior.particle_voxels)


OBJECTIVE = Kind("ge_binomial", needs_prior=True, is_proportional=False, risk=_risk)
