"""Risks and objectives: weighted means over labelled and unlabelled voxels of a species, and the sum over the species."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float32
from torch.nn import functional as F

from tomostream.learn.batch import Batch, CorrectedBatch
from tomostream.learn.objectives.known_negatives import WeighedNegatives
from tomostream.learn.processes import ALONE, Processes

Terms = dict[str, torch.Tensor]

FLOOR = 1e-6  # mean scores are scaled into [FLOOR, 1 - FLOOR], so that the divergence and its gradient stay finite


class Loss(NamedTuple):
    """The loss of a batch, and its terms for the metrics."""

    total: torch.Tensor  # scalar, with gradient
    terms: Terms  # detached scalars by name; a term that the batch does not have is missing


Criterion = Callable[[torch.Tensor, Batch], Loss]  # the loss of a network's output for a batch: all that training needs of an objective


@dataclass(frozen=True, slots=True)
class Expectations:
    """Weighted means over the labelled (P) and the unlabelled (U) voxels of a batch, of one species."""

    logits: Float32[torch.Tensor, "n z y x"]
    labelled: Float32[torch.Tensor, "n z y x"]  # inclusion weight where labelled, else 0
    unlabelled: Float32[torch.Tensor, "n z y x"]  # inclusion weight where not labelled, else 0
    processes: Processes = ALONE  # the processes whose batches are summed

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over the voxels of all processes' batches."""
        return self.processes.total(values.sum())

    @property
    def has_labelled(self) -> bool:
        """Whether the batch has a labelled voxel."""
        return bool(self.total(self.labelled) > 0)

    def over_labelled(self, values: Float32[torch.Tensor, "n z y x"]) -> Float32[torch.Tensor, ""]:
        """Return E_P[values]; call it only if `has_labelled`."""
        return self.total(values * self.labelled) / self.total(self.labelled)

    def over_unlabelled(self, values: Float32[torch.Tensor, "n z y x"]) -> Float32[torch.Tensor, ""]:
        """Return E_U[values]; 0 if every voxel is labelled."""
        total = self.total(self.unlabelled)
        return self.total(values * self.unlabelled) / (total + (total == 0))

    @property
    def loss_if_positive(self) -> Float32[torch.Tensor, "n z y x"]:
        """L(f, 1) = -log f of every voxel."""
        return F.softplus(-self.logits)

    @property
    def loss_if_negative(self) -> Float32[torch.Tensor, "n z y x"]:
        """L(f, 0) = -log(1 - f) of every voxel."""
        return F.softplus(self.logits)


Risk = Callable[[Expectations], Loss]  # estimates the risk of one species from a batch


@dataclass(frozen=True, slots=True)
class Prior:
    """The fractions of one species, known before training, and the objective's parameters."""

    labelled_fraction: float  # pi: labelled voxels over all voxels
    expected_fraction: float  # pi': expected particles' voxels over all voxels
    particle_voxels: float | None  # volume of a particle
    weight: float  # of the second term
    order: str  # of the divergence: prior_to_pu or pu_to_prior

    @property
    def of_unlabelled(self) -> float:
        """Expected fraction of particle voxels among the unlabelled ones: pi'' = (pi' - pi) / (1 - pi)."""
        return (self.expected_fraction - self.labelled_fraction) / (1 - self.labelled_fraction)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objective.

    Parameters
    ----------
    name
        Its name in messages and in the configuration.
    needs_prior
        Whether the expected fraction of particle voxels must be given; otherwise the labelled fraction is used.
    is_proportional
        Whether its risk is proportional to the prior, so that a rare species' risk must be scaled up.
    risk
        Makes the risk of a species from its fractions and the parameters.
    """

    name: str
    needs_prior: bool
    is_proportional: bool
    risk: Callable[[Prior], Risk]


@dataclass(frozen=True, slots=True)
class Objective:
    """The sum of the risks of all species."""

    name: str
    risks: tuple[Risk, ...]  # one per species
    factors: tuple[float, ...]  # factor of each risk in the sum
    notes: tuple[str, ...]  # notes for the user, to show before training
    processes: Processes = ALONE  # the processes that train together
    negatives: tuple[
        WeighedNegatives | None, ...
    ] = ()  # one per species, for batches with known negatives; empty: these are not learnt from

    def __call__(self, logits: Float[torch.Tensor, "n s z y x"], batch: Batch) -> Loss:
        """Estimate the objective from one batch.

        Parameters
        ----------
        logits
            The network's output for `batch.image`; converted to float32.
        batch
            On the device of the logits.

        Returns
        -------
        Loss
            The terms are detached scalars; with several species their names end with the index of the species.
        """
        losses = [self._loss(s, logits[:, s].float(), batch) for s in range(len(self.risks))]
        total = torch.stack([factor * loss.total for factor, loss in zip(self.factors, losses, strict=True)]).sum()
        several = len(losses) > 1
        terms = {f"{name}_{s}" if several else name: value.detach() for s, loss in enumerate(losses) for name, value in loss.terms.items()}
        return Loss(total, {"loss": total.detach()} | terms)

    def _loss(self, species: int, logits: Float32[torch.Tensor, "n z y x"], batch: Batch) -> Loss:
        loss = self.risks[species](_expectations(logits, batch.positive[:, species], batch.weight[:, 0], self.processes))
        known = self.negatives[species] if self.negatives else None
        if known is None or not isinstance(batch, CorrectedBatch):
            return loss
        rejected = known(logits, batch.negative[:, species], batch.weight[:, 0], self.processes)
        return Loss(loss.total + known.weight * rejected, loss.terms | {"rejected_negative": rejected})


def _expectations(
    logits: Float32[torch.Tensor, "n z y x"],
    positive: Bool[torch.Tensor, "n z y x"],
    weight: Float32[torch.Tensor, "n z y x"],
    processes: Processes,
) -> Expectations:
    labelled = weight * positive
    return Expectations(logits, labelled, weight - labelled, processes)
