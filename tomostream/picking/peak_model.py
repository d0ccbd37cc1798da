"""What are the peaks of a volume?  Noise, particles, and a few that stand out of both, in which numbers; for each number of particles, how likely it is.

Over the better half of the peaks that heights are measured by, less its last height (y = height - 1 > 0), the density is

    (1 - p) [(1 - w) Exponential(y; rate) + w Exponential(y; the particles' mean)]  +  p Normal(y; mean, deviation), cut off at 0
            noise                          what stands out: gold, membranes             particles

For each number N = p n of a grid, the others are those of most likelihood (expectation-maximisation over a histogram: n does not matter), with the
clicks' distribution as a prior for mean and deviation.  Without clicks, particles may have any of some usual mean heights.

Limits: look-alikes at the clicks' heights can't be told from particles here; only a number that a person gives helps.

References
----------
Efron 2008, "Microarrays, empirical Bayes and the two-groups model", Statistical Science 23 (the idea of two groups and of each peak's probability).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import logsumexp, ndtr

from tomostream.picking.click_heights import Shape, usual_shape
from tomostream.picking.peak_heights import Heights

_FIRST, _STEP = 0.5, 0.15  # numbers of particles: the first, and the steps of their logarithm
_MOST = 0.8  # of the peaks
_BINS, _FAR = 250, 4.0  # of the histogram, and its end in the particles' mean heights
_ROUNDS, _FIRST_ROUNDS = 40, 150
_TINY = 1e-300
_USUAL_MEANS, _FARTHER = (2.5, 4.0, 6.0, 9.0), 1.5  # and each this many times as high, up to the highest peak
_MOST_MEANS = 16
_FEW, _FEW_WEIGHT = 0.05, 10.0  # what stands out, of all that are no particles: a weak prior
_SLOWER = 1.3  # the mean of what stands out is at least this many times the mean of noise


@dataclass(frozen=True, slots=True, eq=False)
class PeakModel:
    """Numbers of particles and their likelihoods, with the other parameters at each.

    Parameters
    ----------
    number
        Of particles; the first is 0.
    likelihood
        Its logarithm.
    parameters
        Columns: mean and deviation of the particles' y, rate of noise, share and mean of what stands out.
    there
        The sum of the peaks' probabilities: where particles stand clear of noise it is theirs, whatever number was thought of.
    peaks
        How many were looked at.
    """

    number: Float64[np.ndarray, " g"]
    likelihood: Float64[np.ndarray, " g"]
    parameters: Float64[np.ndarray, "g 5"]
    there: Float64[np.ndarray, " g"]
    peaks: int

    @property
    def best(self) -> float:
        """The number of most likelihood."""
        return float(self.number[np.argmax(self.likelihood)])

    def nearest(self, number: float) -> int:
        """The place of a number, above 0."""
        return 1 + int(np.argmin(np.abs(np.log(self.number[1:] / number))))

    def probability(self, place: int, heights: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """The probability of each peak to be a particle, at the number at this place."""
        noise, particles, others = _parts(heights - 1, self.number[place] / self.peaks, *self.parameters[place])
        return np.where(heights > 1, particles / np.maximum(noise + particles + others, _TINY), 0.0)


def fit_peaks(heights: Heights, shape: Shape | None) -> PeakModel:
    """Fit the numbers; see the module's text.

    Parameters
    ----------
    shape
        Of particles' heights, by the clicks; None: it is not known.
    """
    if shape is not None:
        return _fit(heights, shape)
    means = list(_USUAL_MEANS)
    while means[-1] * _FARTHER < heights.values[0] and len(means) < _MOST_MEANS:
        means.append(means[-1] * _FARTHER)
    fits = [_fit(heights, usual_shape(mean)) for mean in means]
    likelihood = np.array([fit.likelihood for fit in fits])
    best = likelihood.argmax(axis=0)
    places = best, np.arange(len(best))
    parameters, there = (np.array([getattr(fit, name) for fit in fits])[places] for name in ("parameters", "there"))
    return PeakModel(fits[0].number, np.asarray(logsumexp(likelihood, axis=0)), parameters, there, fits[0].peaks)


def _parts(
    y: np.ndarray, share: float, mean: float, deviation: float, rate: float, standing: float, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Densities of noise, particles and what stands out, times their shares."""
    noise = (1 - share) * (1 - standing) * rate * np.exp(-rate * y)
    others = (1 - share) * standing / reach * np.exp(-y / reach)
    bump = np.exp(-(((y - mean) / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi))
    return noise, share * bump / max(float(ndtr(mean / deviation)), 1e-12), others


def _fit(heights: Heights, shape: Shape) -> PeakModel:
    y = heights.values[: (len(heights.values) - 1) // 2 + 1] - 1
    n = len(y)
    middle = max(shape.mean - 1, 0.2)  # of particles, in y
    reach = max(middle, 2.0)
    end = min(max(float(y[0]), 1.0), _FAR * max(middle, 1.0)) + 1e-6
    counts, edges = np.histogram(np.minimum(y, end), np.linspace(0, end, _BINS + 1))
    # beyond the end, densities fall as 1 / y: so do likelihoods with other ends compare, and a few far peaks decide nothing
    beyond = np.log(np.maximum(y / end, 1.0)).sum()
    is_there = counts > 0
    counts, y = counts[is_there], ((edges[1:] + edges[:-1]) / 2)[is_there]
    numbers = np.concatenate([[0.0], np.exp(np.arange(np.log(_FIRST), np.log(max(_MOST * n, 1.0)), _STEP))])
    mean, deviation, rate, standing = middle, shape.deviation, 0.75, _FEW / 2
    likelihoods, rows, sums = [], [], []
    for number in numbers:
        share, likelihood, there = number / n, 0.0, 0.0
        for _ in range(_ROUNDS if number else _FIRST_ROUNDS):
            noise, bump, others = _parts(y, share, mean, deviation, rate, standing, reach)
            whole = noise + bump + others + _TINY
            likelihood = float((counts * np.log(whole)).sum())
            noise, bump, others = (counts * part / whole for part in (noise, bump, others))
            standing = float((others.sum() + _FEW * _FEW_WEIGHT) / (others.sum() + noise.sum() + _FEW_WEIGHT))
            rate = max(float(noise.sum() / max((noise * y).sum(), 1e-9)), _SLOWER / reach)
            there = float(bump.sum())
            known = there / deviation**2
            mean = float(((bump * y).sum() / deviation**2 + middle / shape.doubt**2) / (known + 1 / shape.doubt**2))
            squares = float((bump * (y - mean) ** 2).sum()) + shape.weight * shape.deviation**2
            deviation = float(np.sqrt(squares / (there + shape.weight)))
        ratio = deviation / shape.deviation
        prior = ((mean - middle) / shape.doubt) ** 2 / 2 + shape.weight * (np.log(ratio) + ratio**-2 / 2 - 0.5)
        likelihoods.append(likelihood - float(prior) - float(beyond))
        rows.append((mean, deviation, rate, standing, reach))
        sums.append(there)
    return PeakModel(numbers, np.array(likelihoods), np.array(rows), np.array(sums), n)
