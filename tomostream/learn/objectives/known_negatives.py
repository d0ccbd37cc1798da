"""The term of places that a person rejected: c E_N[L(f,0)], added to the risk of any objective.

N is the set of voxels near rejected places.  They stay unlabelled voxels for the risk itself: that is true, and so few voxels hardly move it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32
from torch.nn import functional as F

from tomostream.learn.processes import Processes


@dataclass(frozen=True, slots=True)
class KnownNegatives:
    """The rejected places of one species.

    Parameters
    ----------
    per_click
        Rejected places over clicks, both in the training tomograms.
    fraction
        Voxels of N over all voxels; 0: there are none.
    weight
        Of a place, beside that of a click.
    """

    per_click: float
    fraction: float
    weight: float = 1.0

    def weighed(self, positive: float) -> WeighedNegatives | None:
        """Return the term beside a risk in which E_P[L(f,1)] has the factor `positive`: with weight 1 a place weighs as much as a click, all of them at most as much as all clicks."""
        if self.fraction == 0:
            return None
        return WeighedNegatives(self.weight * positive * min(1.0, self.per_click), self.fraction)


@dataclass(frozen=True, slots=True)
class WeighedNegatives:
    """The term c E_N[L(f,0)].

    Parameters
    ----------
    weight
        c.
    fraction
        Voxels of N over all voxels.
    """

    weight: float
    fraction: float

    def __call__(
        self,
        logits: Float32[torch.Tensor, "n z y x"],
        negative: Bool[torch.Tensor, "n z y x"],
        weight: Float32[torch.Tensor, "n z y x"],
        processes: Processes,
    ) -> Float32[torch.Tensor, ""]:
        """Estimate E_N[L(f,0)] from one batch, without bias.

        Inclusion weights have a mean of 1 over an epoch's voxels, so the mean of weight * L over a batch's voxels in N estimates the same over the
        volume.  Unlike a mean over N alone, it is not left out of batches without a voxel of N, which would count the others too little.
        """
        voxels = processes.total(torch.full((), float(logits.numel()), device=logits.device))
        return processes.total((F.softplus(logits) * weight * negative).sum()) / voxels / self.fraction


def weighed(negatives: Sequence[KnownNegatives] | None, positives: Sequence[float]) -> tuple[WeighedNegatives | None, ...]:
    """Return the term of each species, None for a species without rejected places.

    Parameters
    ----------
    negatives
        Per species; None: there are no rejected places.
    positives
        Per species, the factor of E_P[L(f,1)] in its risk.
    """
    if negatives is None:
        return (None,) * len(positives)
    return tuple(one.weighed(positive) for one, positive in zip(negatives, positives, strict=True))
