"""How many of the best peaks are particles, if no number is expected?  The likeliest split of their scores into noise and particles.

In a good score map, the peaks' scores have two parts: the tail of the noise, which falls off like an exponential, and a bump of particles
at its end.  So, over the highest peaks (several times the expected number; less what the lowest of them has),

    density(x) = (1 - p) Exponential(x; rate) + p Normal(x; mean, deviation), cut off at 0

The four parameters are those of most likelihood, with two weak priors: the number of particles p n is about the expected one (log-normal), and the
bump's deviation about a quarter of its mean.

Limits: the bump is any protein of that size.  Where clicks were measured, `peak_model` knows more.
"""

import math

import numpy as np
from jaxtyping import Float64
from scipy.optimize import minimize
from scipy.special import expit, ndtr

CANDIDATES = 5  # peaks that are looked at, of the expected number
_SHAPE, _SHAPE_SPREAD = 0.25, 0.5  # the bump's deviation over its mean, and the spread of its logarithm
_LEAST_PEAKS = 20  # fewer say nothing of a distribution
_STARTS = (2.0, 3.0, 4.0, 5.0)  # of the bump's mean, in means of all


def particles_among(scores: Float64[np.ndarray, " n"], *, expected: int, spread: float) -> float:
    """How many of the best peaks are particles; with too few or all equal scores, as many as are expected, or there are.

    Parameters
    ----------
    scores
        Of peaks, falling, finite, unbounded; the best `CANDIDATES` x `expected` are looked at.
    expected
        Particles, at a guess; at least 1.
    spread
        How far the logarithm of that guess may be off (standard deviation).
    """
    x = scores[: CANDIDATES * expected]
    n = len(x)
    if n <= max(expected, _LEAST_PEAKS) or x[0] == x[-1]:
        return float(min(expected, n))
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
    return _parts(min(fits, key=lambda fit: float(fit.fun)).x, x)[0] * n


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
