"""How many of the best peaks are particles?  The estimate combines the peaks' heights with the number expected.

1. `peak_model`: for each number of particles, how well it explains the heights; where clicks were measured (`click_heights`), particles look like
   them.  That knows nothing of the number expected.
2. A prior around the number expected: people guess too few less often than too many, and sometimes there is none.  Look-alikes can
   only make a number too high, so the prior gives way downwards more than upwards.  The likelihood counts half (peaks are not independent, and
   the model is not true).  What is there at each number, the sum of the peaks' probabilities, is then
   averaged, by its logarithm.
3. Of the k best picks, the sum of their probabilities are particles: the k of the best expected F1, but `LEAST` to `MOST` times the number.
   Never fewer than were clicked there, though: those are known.
4. The count over the number expected is made to rise, and by no more than its `STEEPEST` power: a tenth more never gives more than a fifth
   more picks, whatever the scores.

What is promised of the choice, and when nothing, is `promises`.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from tomostream.errors import InputError
from tomostream.picking.click_heights import ClickHeights
from tomostream.picking.peak_heights import Heights, heights_of
from tomostream.picking.peak_model import PeakModel, fit_peaks
from tomostream.picking.promises import Promise, Seen, fewer_than_clicked, promised, untold

LEAST, MOST = 0.8, 1.05  # picks over particles
STEEPEST = 1.8  # 1.1 to this power is less than 1.2
_MORE, _LESS, _NONE = 0.25, 0.4, 0.02  # the prior: deviation and decay of the number's logarithm, above and below; chance of none
_FAR_MORE = 1.4  # times the number expected are never taken for particles
_TRUST = 0.5  # in the likelihood
_DRAWN = 2.0  # standard deviations
_STEP = 1.05  # of the numbers expected at which counts are worked out


@dataclass(frozen=True, slots=True)
class CountChoice:
    """How many picks are taken, how many particles there seem to be, and what may be expected of the choice."""

    picks: int
    particles: float
    promise: Promise


def choose_count(
    scores: Float64[np.ndarray, " n"],
    *,
    expected: int,
    most: int,
    clicks: ClickHeights | None = None,
    is_estimate: bool = False,
    least: int = 0,
) -> CountChoice:
    """Choose how many of the best peaks are picks.

    Parameters
    ----------
    scores
        Of peaks no two of which are within a particle's radius, falling, finite; all, or as many of the best as `most` and the expected number ask for.
        Logits, correlations: anything unbounded.
    expected
        Particles in the volume, as a person would guess.
    most
        By how many of them heights are measured (`peaks_measured`).
    clicks
        Their heights, where they are known.
    is_estimate
        Whether the number expected is an estimate from the clicks, which counts look-alikes.
    least
        Particles that are known to be there: no fewer picks, as far as there are peaks.

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
    heights = heights_of(scores, most)
    if heights is None:
        all_of = min(max(expected, least), len(scores))
        return CountChoice(all_of, float(all_of), untold("the volume has too few peaks to tell particles from noise"))
    model = fit_peaks(heights, None if clicks is None else clicks.shape)
    picks = min(_smooth_count(model, heights, expected), len(scores))
    particles = float(_particles(model, np.array([float(expected)]))[0])
    if picks < (known := min(least, len(scores))):
        return CountChoice(known, max(particles, float(known)), fewer_than_clicked(picks, least))
    seen = Seen(picks, particles, expected, is_estimate)
    return CountChoice(picks, particles, promised(model, heights, clicks, seen))


def _particles(model: PeakModel, expected: Float64[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
    """Particles that there seem to be, for each number expected."""
    number, likelihood = model.number[1:], _TRUST * (model.likelihood - model.likelihood.max())
    away = np.log(number[None] / expected[:, None])
    prior = np.where(away > 0, -((away / _MORE) ** 2) / 2, -np.abs(away) / _LESS)
    prior[away > math.log(_FAR_MORE)] = -math.inf
    weight = np.exp(prior + likelihood[1:])
    # as many steps as the prior is wide, so that the chance of none does not depend on the grid
    none = _NONE * math.exp(likelihood[0]) * np.exp(prior).sum(axis=1)
    some = weight.sum(axis=1)
    # a number that is drawn is off by its square root
    there = np.clip(model.there[1:], np.maximum(number - _DRAWN * np.sqrt(number), number / 3), number + _DRAWN * np.sqrt(number))
    there = np.minimum(there, _FAR_MORE * expected[:, None])
    mean = np.exp((weight * np.log(there)).sum(axis=1) / np.maximum(some, 1e-300))
    return np.asarray(mean * some / (some + none + 1e-300))


def _smooth_count(model: PeakModel, heights: Heights, expected: int) -> int:
    """The count for a number expected, with the counts for all smaller ones: it rises, and not too fast."""
    steps = np.arange(math.ceil(math.log(expected) / math.log(_STEP)) + 1)
    counts = np.array([_best_count(model, heights, number) for number in _particles(model, _STEP ** steps.astype(np.float64))])
    counts = np.maximum.accumulate(np.maximum(counts, 0.4))  # rounds to none
    for i in steps[1:]:
        counts[i] = min(counts[i], counts[i - 1] * _STEP**STEEPEST)
    return round(math.exp(float(np.interp(math.log(expected) / math.log(_STEP), steps, np.log(counts)))))


def _best_count(model: PeakModel, heights: Heights, particles: float) -> float:
    """The k of the best expected F1, within its bounds."""
    least, most = max(1, round(LEAST * particles)), max(1, round(MOST * particles))
    if particles < 1 or least >= len(heights.values):
        return particles
    chance = model.probability(model.nearest(particles), heights.values[:most])
    # the higher, the likelier: what stands out too far to be one can't be left out of the best
    sums = np.cumsum(np.maximum.accumulate(chance[::-1])[::-1])
    ranks = np.arange(1, len(sums) + 1)
    return float(least + np.argmax((sums / (ranks + particles))[least - 1 :]))
