"""Split the best picks into the particles and their look-alikes, by their radial profiles.

The best half of the picks is nearly pure.  Those around the expected number are a mixture: particles, and other proteins that the scores take for
them.  The scores can't tell these apart any more, but their radial profiles can, and no click is needed to learn it.

1. The profiles are those of the best 1.5 N picks, N being the expected number; see `shells` for what a profile is.
2. They are described by three Gaussians of one covariance: the particles, and two of look-alikes.  The best half of the N picks are particles, all
   through; the rest is divided by expectation and maximisation.
3. Gaussians of one covariance differ by a linear function of the profile.  So the odds of a particle against each kind of look-alike are a
   correlation with one radial kernel, plus a constant.

Where the best picks are of one kind only, or there are too few of them, the split means nothing; `tells` says so.  Among the picks beyond the N-th
some are particles by the split.  Few of them are expected there, so the more there are, the less a likeness proves; `most_odds` takes that into
account.  An unlikeness proves as much as before.

References
----------
McLachlan & Basford 1988, "Mixture Models: Inference and Applications to Clustering" (partially classified samples).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

CANDIDATES = 1.5  # picks that are split, of the expected number
KINDS = 3  # Gaussians, the particles' included
ROUNDS = 20  # of expectation and maximisation
SHRINKAGE = 0.2  # share of the covariance that is taken from its diagonal alone
LEAST_PROFILES = 10  # fewest profiles per shell
LEAST_SURE, MOST_UNSURE = 0.9, 0.5  # particles among the best half of the N picks, at least, and beyond the N-th, at most
TRUSTED_UNSURE = 0.25  # share of particles beyond the N-th pick from which a likeness proves nothing
_TINY = 1e-300


@dataclass(frozen=True, slots=True, eq=False)
class Populations:
    """The odds of a particle against each kind of look-alike, as linear functions of a radial profile.

    Parameters
    ----------
    weights
        Float64 (k, b): of each shell of the profile, per kind of look-alike.
    offsets
        Float64 (k,): log odds for a profile of zeros.
    """

    weights: Float64[np.ndarray, "k b"]
    offsets: Float64[np.ndarray, " k"]

    def log_odds(self, profiles: Float64[np.ndarray, "n b"]) -> Float64[np.ndarray, " n"]:
        """Return the logarithm of the odds of a particle against all look-alikes together."""
        odds: np.ndarray = -np.logaddexp.reduce(-(profiles @ self.weights.T + self.offsets), axis=1)
        return odds


def fit_populations(profiles: Float64[np.ndarray, "n b"], number: int) -> Populations:
    """Split profiles into particles and look-alikes.

    Parameters
    ----------
    profiles
        Of picks, the best first: more than `number` and at least two more; at most `CANDIDATES` times as many are used.
    number
        Expected number of particles, at least 2.
    """
    profiles = profiles[: int(CANDIDATES * number)]
    sure = number // 2
    shares = _first_guess(profiles, number)
    for _ in range(ROUNDS):
        sums = shares.sum(axis=0) + _TINY
        means = shares.T @ profiles / sums[:, None]
        portions = sums / len(profiles)
        precision = np.linalg.inv(_covariance(profiles, shares, means))
        shares = _shares(profiles, means, precision, portions)
        shares[:sure] = np.eye(KINDS)[0]
    # log density of Gaussian k, without the term that all share: m_k' P x - m_k' P m_k / 2 + log portion
    linear = means @ precision
    constant = -0.5 * np.einsum("kb,kb->k", linear, means) + np.log(portions)
    return Populations(linear[0] - linear[1:], constant[0] - constant[1:])


def tells(populations: Populations, profiles: Float64[np.ndarray, "n b"], number: int) -> bool:
    """Return whether the split is one of particles and look-alikes: there are enough profiles, and the kinds go with the ranks.

    Parameters
    ----------
    populations, profiles, number
        As of `fit_populations`.
    """
    profiles = profiles[: int(CANDIDATES * number)]
    if len(profiles) < LEAST_PROFILES * profiles.shape[1] or len(profiles) <= number:
        return False
    sure = float((populations.log_odds(profiles[: number // 2]) > 0).mean())
    return sure >= LEAST_SURE and particles_beyond(populations, profiles, number) <= MOST_UNSURE


def particles_beyond(populations: Populations, profiles: Float64[np.ndarray, "n b"], number: int) -> float:
    """Return the share of particles among the picks beyond the N-th; more than `MOST_UNSURE` says that `number` is too small.

    Parameters
    ----------
    populations, profiles, number
        As of `fit_populations`; more than `number` profiles.
    """
    return float((populations.log_odds(profiles[number : int(CANDIDATES * number)]) > 0).mean())


def most_odds(populations: Populations, profiles: Float64[np.ndarray, "n b"], number: int) -> float:
    """Return the log odds above which a place is no likelier a particle: the median of the best half, or less, down to 0.

    Parameters
    ----------
    populations, profiles, number
        As of `fit_populations`; more than `number` profiles.
    """
    sure = float(np.median(populations.log_odds(profiles[: number // 2])))
    return max(0.0, sure) * max(0.0, 1 - particles_beyond(populations, profiles, number) / TRUSTED_UNSURE)


def _first_guess(profiles: np.ndarray, number: int) -> Float64[np.ndarray, "n k"]:
    """The best half are particles; those beyond `number` are look-alikes, split along the direction in which they vary most; the others may be all."""
    sure = number // 2
    shares = np.zeros((len(profiles), KINDS))
    shares[:sure, 0] = 1
    shares[sure:number] = 1 / KINDS
    low = profiles[number:] - profiles[:sure].mean(axis=0)
    direction = np.linalg.svd(low - low.mean(axis=0), full_matrices=False)[2][0]
    along = low @ direction
    ends = np.quantile(along, np.linspace(0, 1, KINDS))
    for kind in range(1, KINDS):
        shares[number + np.flatnonzero((along >= ends[kind - 1]) & (along <= ends[kind])), kind] = 1
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _covariance(profiles: np.ndarray, shares: np.ndarray, means: np.ndarray) -> Float64[np.ndarray, "b b"]:
    """The covariance that all kinds share, with its off-diagonal elements shrunk."""
    length = profiles.shape[1]
    total = np.zeros((length, length))
    for share, mean in zip(shares.T, means, strict=True):
        apart = profiles - mean
        total += (share[:, None] * apart).T @ apart
    total /= len(profiles)
    shrunk = (1 - SHRINKAGE) * total + SHRINKAGE * np.diag(np.diag(total))
    return np.asarray(shrunk + (1e-6 * np.trace(total) / length + _TINY) * np.eye(length))


def _shares(profiles: np.ndarray, means: np.ndarray, precision: np.ndarray, portions: np.ndarray) -> Float64[np.ndarray, "n k"]:
    apart = profiles[:, None] - means
    logarithm = -0.5 * np.einsum("nkb,bc,nkc->nk", apart, precision, apart) + np.log(portions)
    logarithm -= logarithm.max(axis=1, keepdims=True)
    likelihood = np.exp(logarithm)
    return np.asarray(likelihood / likelihood.sum(axis=1, keepdims=True))
