"""What is the network trained to do with voxels that nobody has labelled?  PN, nnPU, KL and GE-binomial, per species.

P are the voxels in labelled spheres, U all others: particles not clicked, and background.  f is the score (sigmoid of the logit), L
the binary cross-entropy, pi the fraction of labelled voxels, pi' the expected fraction of particle voxels, and
pi'' = (pi' - pi) / (1 - pi) that among U.

    PN     pi E_P[L(f,1)] + (1 - pi) E_U[L(f,0)]            every unlabelled voxel counts as background
    nnPU   R = pi' R_P+ + B                                  with R_P+ = E_P[L(f,1)] and the background's risk
           B = (1 - pi) E_U[L(f,0)] - (pi' - pi) E_P[L(f,0)]: that of the unlabelled voxels, less that of the hidden particles among them;
           where B < 0 (overfitting: no risk is negative) the step is on -B instead
    KL     E_P[L(f,1)] + weight D                            D between Bernoullis: KL(E_U[f] || pi'') (`pu_to_prior`, the paper's) or
                                                             KL(pi'' || E_U[f]) (`prior_to_pu`, Topaz's)

    GE     E_P[L(f,1)] + weight H                           H: cross-entropy between the number of particles among a batch's unlabelled voxels
                                                             as the scores have it, and Binomial(n, pi'') (Topaz's GE-binomial)

1. E_P and E_U are means weighted by the batch's inclusion weights (self-normalised), so that they estimate means over the volume
   although crops are drawn around labels.
2. A batch without labelled voxels of a species has no E_P: the terms that need it are left out.
3. Each species has its own risk, prior and output; the risks are added.  Those of PN and nnPU are in proportion to the prior, and a rare
   species' would be drowned by a frequent one's: each is divided by its prior over the largest one.
4. Kiryo's E_U is over all voxels, labelled ones too: pi E_P + (1 - pi) E_U here, whence (pi' - pi). The paper subtracts pi' E_P from the
   unlabelled voxels alone: the same where few are labelled, too much where many are.
5. Where pi' <= pi there is nothing unlabelled to find: that species is trained by PN, and `notes` says so.
6. GE-binomial counts particles, not voxels (neighbouring voxels belong to one particle): n is the batch's unlabelled voxels over those of a
   particle, and H = E_k[-log Binomial(k; n, pi'')] for k of the scores' Gaussian: mean n E_U[f], variance n E_U[f (1 - f)].
7. Where several processes train together, all sums go over all processes' batches (`processes.total`): the loss of one with the whole batch.

Limits: the self-normalised mean of one batch is biased by O(1 / crops), and D is not linear in E_U: batches of few crops press
the mean score of each batch, not only that of the volume, towards the prior.

References
----------
Kiryo, Niu, du Plessis, Sugiyama 2017, "Positive-unlabeled learning with non-negative risk estimator" (nnPU); Bepler et al. 2019,
"Positive-unlabeled convolutional neural networks for particle picking in cryo-electron micrographs" (Topaz; GE-KL, after Mann and
McCallum 2010).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float32
from torch.nn import functional as F

from tomostream.errors import InputError
from tomostream.learn.batch import Batch
from tomostream.learn.processes import ALONE, Processes

Terms = dict[str, torch.Tensor]

_FLOOR = 1e-6  # mean scores are squeezed into [_FLOOR, 1 - _FLOOR]: the divergence and its gradient stay finite


class Loss(NamedTuple):
    """What to step on, and what to write down."""

    total: torch.Tensor  # scalar, with gradient
    terms: Terms  # detached scalars by name; a term that the batch does not have is missing


Criterion = Callable[[torch.Tensor, Batch], Loss]  # from a network's output and its batch: what any training needs of an objective


@dataclass(frozen=True, slots=True)
class Expectations:
    """Weighted means over the labelled (P) and the unlabelled (U) voxels of a batch, of one species."""

    logits: Float32[torch.Tensor, "n z y x"]
    labelled: Float32[torch.Tensor, "n z y x"]  # inclusion weight where labelled, else 0
    unlabelled: Float32[torch.Tensor, "n z y x"]  # inclusion weight where not labelled, else 0
    processes: Processes = ALONE  # whose batches are one together

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over the voxels of all processes' batches."""
        return self.processes.total(values.sum())

    @property
    def has_labelled(self) -> bool:
        """Whether the batch has a labelled voxel."""
        return bool(self.total(self.labelled) > 0)

    def over_labelled(self, values: Float32[torch.Tensor, "n z y x"]) -> Float32[torch.Tensor, ""]:
        """E_P[values]; only where `has_labelled`."""
        return self.total(values * self.labelled) / self.total(self.labelled)

    def over_unlabelled(self, values: Float32[torch.Tensor, "n z y x"]) -> Float32[torch.Tensor, ""]:
        """E_U[values]; 0 if every voxel is labelled."""
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
class PositiveNegative:
    """PN: every unlabelled voxel is background."""

    labelled_fraction: float  # pi

    def __call__(self, means: Expectations) -> Loss:
        """Estimate pi E_P[L(f,1)] + (1 - pi) E_U[L(f,0)]."""
        negative = means.over_unlabelled(means.loss_if_negative)
        total = (1 - self.labelled_fraction) * negative
        terms = {"unlabelled_negative": negative}
        if means.has_labelled:
            positive = means.over_labelled(means.loss_if_positive)
            total = total + self.labelled_fraction * positive
            terms["labelled_positive"] = positive
        return Loss(total, terms)


@dataclass(frozen=True, slots=True)
class NonNegative:
    """nnPU: the risk over unlabelled voxels, less the part that hidden particles have in it, which can't be negative."""

    labelled_fraction: float  # pi
    expected_fraction: float  # pi'

    def __call__(self, means: Expectations) -> Loss:
        """Estimate the risk; its gradient is the ascending one where the constraint is violated."""
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


@dataclass(frozen=True, slots=True)
class Divergence:
    """KL: labelled voxels are positive, and the mean score of the unlabelled ones is the prior."""

    prior: float  # pi''
    weight: float
    order: str  # prior_to_pu or pu_to_prior

    def __call__(self, means: Expectations) -> Loss:
        """Estimate E_P[L(f,1)] + weight KL."""
        # 1 - E_U[f] from the other tail, where float32 still resolves it
        score = means.over_unlabelled(torch.sigmoid(means.logits)) * (1 - 2 * _FLOOR) + _FLOOR
        rest = means.over_unlabelled(torch.sigmoid(-means.logits)) * (1 - 2 * _FLOOR) + _FLOOR
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


@dataclass(frozen=True, slots=True)
class Binomial:
    """GE-binomial: the number of particles among the unlabelled voxels is distributed as independent draws with the prior would be."""

    prior: float  # pi''
    weight: float
    particle_voxels: float  # volume of a particle: what a draw stands for

    def __call__(self, means: Expectations) -> Loss:
        """Estimate E_P[L(f,1)] + weight H / n; per draw, so that the weight means the same for any batch."""
        score = torch.sigmoid(means.logits)
        mean = means.over_unlabelled(score)
        spread = means.over_unlabelled(score * torch.sigmoid(-means.logits))
        draws = max(1, round(float(means.total(means.unlabelled > 0)) / self.particle_voxels))
        counts = torch.arange(draws + 1, dtype=torch.float32, device=mean.device)
        # the scores' own distribution of the count (Poisson-binomial), as a discretised Gaussian
        posterior = torch.softmax(-((counts - draws * mean) ** 2) / (2 * (draws * spread + _FLOOR)), dim=0)
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


@dataclass(frozen=True, slots=True)
class Objective:
    """The sum of the risks of all species."""

    name: str
    risks: tuple[Risk, ...]  # one a species
    factors: tuple[float, ...]  # of the risks in the sum
    notes: tuple[str, ...]  # what the user should be told before training
    processes: Processes = ALONE  # that train together

    def __call__(self, logits: Float[torch.Tensor, "n s z y x"], batch: Batch) -> Loss:
        """Estimate the objective from one batch.

        Parameters
        ----------
        logits
            The network's output for `batch.image`; computed on in float32.
        batch
            On the logits' device.

        Returns
        -------
        Loss
            The terms carry the species' index where there are several; a scalar each, detached.
        """
        losses = [
            risk(_expectations(logits[:, s].float(), batch.positive[:, s], batch.weight[:, 0], self.processes))
            for s, risk in enumerate(self.risks)
        ]
        total = torch.stack([factor * loss.total for factor, loss in zip(self.factors, losses, strict=True)]).sum()
        several = len(losses) > 1
        terms = {f"{name}_{s}" if several else name: value.detach() for s, loss in enumerate(losses) for name, value in loss.terms.items()}
        return Loss(total, {"loss": total.detach()} | terms)


def _expectations(
    logits: Float32[torch.Tensor, "n z y x"],
    positive: Bool[torch.Tensor, "n z y x"],
    weight: Float32[torch.Tensor, "n z y x"],
    processes: Processes,
) -> Expectations:
    labelled = weight * positive
    return Expectations(logits, labelled, weight - labelled, processes)


OBJECTIVES = ("pn", "nnpu", "kl", "ge_binomial")


def make_objective(
    name: str,
    *,
    weight: float,
    order: str,
    labelled_fraction: Sequence[float],
    expected_fraction: Sequence[float] | None,
    particle_voxels: Sequence[float] | None = None,
) -> Objective:
    """Build one of `OBJECTIVES`.

    Parameters
    ----------
    name
        Which.
    weight, order
        Of the divergence; only `kl` and `ge_binomial` use the weight, only `kl` the order.
    labelled_fraction
        pi of each species, in [0, 1): labelled voxels over all voxels.
    expected_fraction
        pi' of each species, in (0, 1): expected particles' voxels over all voxels; None if unknown (`pn` needs none).
    particle_voxels
        Volume of a particle of each species; only `ge_binomial` uses it.

    Raises
    ------
    InputError
        If the name or order is unknown, a fraction is out of range, or the expected fraction is missing.
    """
    _check(name, weight, order, labelled_fraction)
    if name == "pn":
        return Objective(name, tuple(PositiveNegative(pi) for pi in labelled_fraction), _factors(labelled_fraction), ())
    if expected_fraction is None:
        raise InputError(
            f"objective {name} needs the expected number of particles of each species (species: expected: NUMBER) or objective.prior"
        )
    if len(expected_fraction) != len(labelled_fraction) or not all(0 < p < 1 for p in expected_fraction):
        raise InputError(
            f"the expected fraction of particle voxels must be between 0 and 1 for each of {len(labelled_fraction)} species, "
            f"found {list(expected_fraction)}; are the expected numbers, the radius and the spacing right?"
        )
    if name == "ge_binomial" and (
        particle_voxels is None or len(particle_voxels) != len(labelled_fraction) or not min(particle_voxels) > 0
    ):
        raise InputError(f"objective ge_binomial needs the volume of a particle of each species in voxels, found {particle_voxels}")
    volumes = particle_voxels or [1.0] * len(labelled_fraction)
    risks: list[Risk] = []
    notes = []
    for species, (pi, expected, volume) in enumerate(zip(labelled_fraction, expected_fraction, volumes, strict=True)):
        if expected <= pi:
            notes.append(
                f"species {species + 1}: the expected fraction of particle voxels ({expected:.3g}) is not above the labelled one "
                f"({pi:.3g}), so there is nothing unlabelled to find: trained by pn instead of {name}"
            )
            risks.append(PositiveNegative(pi))
        elif name == "nnpu":
            risks.append(NonNegative(pi, expected))
        elif name == "ge_binomial":
            risks.append(Binomial((expected - pi) / (1 - pi), weight, volume))
        else:
            risks.append(Divergence((expected - pi) / (1 - pi), weight, order))
    priors = [getattr(risk, "expected_fraction", pi) for risk, pi in zip(risks, labelled_fraction, strict=True)]
    return Objective(name, tuple(risks), _factors(priors) if name == "nnpu" else (1.0,) * len(risks), tuple(notes))


def _factors(priors: Sequence[float]) -> tuple[float, ...]:
    """What makes risks in proportion to their priors equal; 1 where a species has no label at all."""
    return tuple(max(priors) / prior if prior > 0 else 1.0 for prior in priors)


def _check(name: str, weight: float, order: str, labelled_fraction: Sequence[float]) -> None:
    if name not in OBJECTIVES:
        raise InputError(f"objective.name must be one of {', '.join(OBJECTIVES)}, found '{name}'")
    if order not in ("prior_to_pu", "pu_to_prior"):
        raise InputError(f"objective.order must be prior_to_pu or pu_to_prior, found '{order}'")
    if not (weight > 0 and math.isfinite(weight)):
        raise InputError(f"objective.weight must be above zero, found {weight}")
    if not labelled_fraction or not all(0 <= pi < 1 for pi in labelled_fraction):
        raise InputError(
            f"the labelled fraction must be in [0, 1) for each species, found {list(labelled_fraction)}; check the labels' radius"
        )
