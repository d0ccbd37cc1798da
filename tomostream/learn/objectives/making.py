"""Make an objective from fractions and parameters: the risks of all species, scaled so that none dominates."""

import math
from collections.abc import Sequence

from tomostream.errors import InputError
from tomostream.learn.objectives import ge_binomial, kl, nnpu, pn
from tomostream.learn.objectives.known_negatives import KnownNegatives, weighed
from tomostream.learn.objectives.risk import Kind, Objective, Prior, Risk

OBJECTIVES = {kind.name: kind for kind in (pn.OBJECTIVE, nnpu.OBJECTIVE, kl.OBJECTIVE, ge_binomial.OBJECTIVE)}


def make_objective(
    kind: Kind | str,
    *,
    weight: float,
    order: str,
    labelled_fraction: Sequence[float],
    expected_fraction: Sequence[float] | None,
    particle_voxels: Sequence[float] | None = None,
    negatives: Sequence[KnownNegatives] | None = None,
) -> Objective:
    """Build an objective.

    Parameters
    ----------
    kind
        The kind of objective; one of `OBJECTIVES` may be given by name.
    weight, order
        Weight of the second term, and order of a divergence; see the kinds.
    labelled_fraction
        pi of each species, in [0, 1): labelled voxels over all voxels.
    expected_fraction
        pi' of each species, in (0, 1): expected particles' voxels over all voxels; None if unknown (`pn` needs none).
    particle_voxels
        Volume of a particle of each species; only `ge_binomial` needs it.
    negatives
        Rejected places of each species; None: there are none.

    Raises
    ------
    InputError
        If the name or order is unknown, a fraction is out of range, or the expected fraction is missing.
    """
    kind = _named(kind)
    _check(weight, order, labelled_fraction)
    if not kind.needs_prior:
        expected_fraction = labelled_fraction
    elif expected_fraction is None:
        raise InputError(
            f"objective {kind.name} needs the expected number of particles of each species (species: expected: NUMBER) or objective.prior"
        )
    elif len(expected_fraction) != len(labelled_fraction) or not all(0 < p < 1 for p in expected_fraction):
        raise InputError(
            f"the expected fraction of particle voxels must be between 0 and 1 for each of {len(labelled_fraction)} species, "
            f"found {list(expected_fraction)}; are the expected numbers, the radius and the spacing right?"
        )
    volumes = [None] * len(labelled_fraction) if particle_voxels is None else list(particle_voxels)
    risks: list[Risk] = []
    shares: list[float] = []  # of particle voxels, as each risk has them
    notes: list[str] = []
    for number, (pi, expected, volume) in enumerate(zip(labelled_fraction, expected_fraction, volumes, strict=True), 1):
        prior = Prior(pi, expected, volume, weight, order)
        if kind.needs_prior and expected <= pi:
            notes.append(
                f"species {number}: the expected fraction of particle voxels ({expected:.3g}) is not above the labelled one "
                f"({pi:.3g}), so there is nothing unlabelled to find: trained by pn instead of {kind.name}"
            )
            risks.append(pn.OBJECTIVE.risk(prior))
            shares.append(pi)
        else:
            risks.append(kind.risk(prior))
            shares.append(expected)
    factors = _factors(shares) if kind.is_proportional else (1.0,) * len(risks)
    terms = weighed(negatives, shares if kind.is_proportional else [1.0] * len(risks))
    return Objective(kind.name, tuple(risks), factors, tuple(notes), negatives=terms)


def _factors(priors: Sequence[float]) -> tuple[float, ...]:
    """Return factors that make risks equal which are proportional to their priors; 1 for a prior of zero."""
    return tuple(max(priors) / prior if prior > 0 else 1.0 for prior in priors)


def _named(kind: Kind | str) -> Kind:
    if isinstance(kind, Kind):
        return kind
    if kind not in OBJECTIVES:
        raise InputError(f"objective.name must be one of {', '.join(OBJECTIVES)}, found '{kind}'")
    return OBJECTIVES[kind]


def _check(weight: float, order: str, labelled_fraction: Sequence[float]) -> None:
    if order not in ("prior_to_pu", "pu_to_prior"):
        raise InputError(f"objective.order must be prior_to_pu or pu_to_prior, found '{order}'")
    if not (weight > 0 and math.isfinite(weight)):
        raise InputError(f"objective.weight must be above zero, found {weight}")
    if not labelled_fraction or not all(0 <= pi < 1 for pi in labelled_fraction):
        raise InputError(
            f"the labelled fraction must be in [0, 1) for each species, found {list(labelled_fraction)}; check the labels' radius"
        )
