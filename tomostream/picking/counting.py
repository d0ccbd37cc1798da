"""How many of the best peaks are particles if the number is unknown?  The number with the best expected F1, from a mixture of noise and particles.

In a good score map, the peaks' scores have two parts: the tail of the noise, which falls off like an exponential, and a bump of particles
at its end.  So, over the highest peaks (several times the expected number; less what the lowest of them has),

    density(x) = (1 - p) Exponential(x; rate) + p Normal(x; mean, deviation), cut off at 0

1. The four parameters have the greatest likelihood, with two weak priors: the number of particles p n is about the expected one
   (log-normal; guesses are within a factor of about 1.3), and the bump's deviation is about a quarter of its mean.
2. A pick of score x is a particle with probability r(x), the second part's share of the density.
3. Of the k best picks, the sum of r are particles; of p n in all.  So F1 is expected to be 2 sum(r) / (k + p n): the best k is chosen.

Probabilities must be given as logits: as such they are unbounded, and the parts have these shapes.

Limits: if noise and particles overlap without a dip between them, the expected number decides almost alone.

References
----------
Efron 2008, "Microarrays, empirical Bayes and the two-groups model", Statistical Science 23 (the idea of two groups and r, the local false discovery rate).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import minimize
from scipy.special import expit, ndtr

from tomostream.errors import InputError

CANDIDATES = 5  # peaks that are examined, as a multiple of the expected number
COUNT_SPREAD = 0.3  # standard deviation of the logarithm of the expected number
_SHAPE, _SHAPE_SPREAD = 0.25, 0.5  # the bump's deviation over its mean, and the spread of its logarithm
_LEAST_PEAKS = 20  # fewer don't show a distribution
_STARTS = (2.0, 3.0, 4.0, 5.0)  # of the bump's mean, in means of all


@dataclass(frozen=True, slots=True)
class CountChoice:
    """The number of picks, the estimated number of particles, and the F1 expected of this choice."""

    picks: int
    particles: float
    f1: float


def choose_count(scores: Float64[np.ndarray, " n"], *, expected: int, spread: float = COUNT_SPREAD) -> CountChoice:
    """Choose how many of the best peaks become picks.

    Parameters
    ----------
    scores
        Of peaks no two of which are within a particle's radius, falling, finite; the best `CANDIDATES` x `expected` of a volume, or all.
        Logits, correlations: anything unbounded.
    expected
        Estimated number of particles in the volume.
    spread
        How far the logarithm of that guess may be off (standard deviation).

    Returns
    -------
    CountChoice
        With too few or all equal scores, as many as are expected, or there are.

    Raises
    ------
    InputError
        If the expected number is not positive, or the scores don't fall.
    """
    if expected < 1:
        raise InputError(f"the expected number of particles must be at least 1, found {expected}")
    if (np.diff(scores) > 0).any() or not np.isfinite(scores).all():
        raise InputError("the scores of peaks must be finite and fall from the best to the last")
    x = scores[: CANDIDATES * expected]
    n = len(x)
    least = min(expected, n)
    if n <= max(expected, _LEAST_PEAKS) or x[0] == x[-1]:
        return CountChoice(least, float(least), math.nan)
    x = (x - x[-1]) / float(np.mean(x - x[-1]))
    start = math.log(expected / (n - expected))
    fits = [
        minimize(
            _cost,
            [start, math.log(1.5), mean, math.log(0.7)],
            args=(x, expected, spread),
            method="Nelder-Mead",
            options={"maxiter": 4000, "maxfev": 4000},
        )
        for mean in _STARTS
    ]
    share, noise, particles = _parts(min(fits, key=lambda fit: float(fit.fun)).x, x)
    probability = particles / np.maximum(noise + particles, np.finfo(float).tiny)
    f1 = 2 * np.cumsum(probability) / (np.arange(1, n + 1) + share * n)
    best = int(np.argmax(f1))
    return CountChoice(best + 1, share * n, float(f1[best]))


def _parts(values: np.ndarray, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The share of particles, and the densities of noise and particles times their shares."""
    share, rate, mean, deviation = float(expit(values[0])), math.exp(values[1]), values[2], math.exp(values[3])
    noise = (1 - share) * rate * np.exp(-rate * x)
    bump = np.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
    return share, noise, share * bump / max(float(ndtr(mean / deviation)), np.finfo(float).tiny)


def _cost(values: np.ndarray, x: np.ndarray, expected: int, spread: float) -> float:
    if np.abs(values).max() > 50:
        return math.inf
    share, noise, particles = _parts(values, x)
    likelihood = float(np.log(noise + particles + 1e-300).sum())
    number = math.log(max(share * len(x), 1e-9) / expected) / spread
    shape = (values[3] - math.log(_SHAPE * abs(values[2]) + 1e-3)) / _SHAPE_SPREAD
    return -likelihood + float(number**2 + shape**2) / 2
