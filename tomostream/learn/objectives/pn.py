"""PN: pi E_P[L(f,1)] + (1 - pi) E_U[L(f,0)]; every unlabelled voxel counts as background."""

from dataclasses import dataclass

from tomostream.learn.objectives.risk import Expectations, Kind, Loss


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


OBJECTIVE = Kind("pn", needs_prior=False, is_proportional=True, risk=lambda prior: PositiveNegative(prior.labelled_fraction))
