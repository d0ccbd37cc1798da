"""What may be promised of a chosen count?  Precision and F1, where two ways of telling them agree; else nothing, with the reason.

0. What was learnt from clicks holds where tomograms are alike: the noise of scores, and how high the best peaks stand in it.
1. By the peaks: the sum of their probabilities (`peak_model`) are particles.
2. By clicks that were left out of training: those are particles at random, so the share of them that stands as high as the lowest pick is the recall.
3. Both need the number of particles, which a person has given and the peaks don't contradict.
4. The promise is the mean of both.  Its error was measured on data sets that the constants were not chosen on (docs/measurements.md).
"""

import math
from dataclasses import dataclass

import numpy as np

from tomostream.picking.click_heights import ClickHeights
from tomostream.picking.peak_heights import Heights
from tomostream.picking.peak_model import PeakModel

LEFT_OUT = 8  # clicks at least
AGREE = 0.12  # F1 of the two ways
SURE = 0.11  # standard error of the recall by clicks
ALIKE = 0.75, 1.33  # the picks' median height over the clicks'
NOISE = 0.87, 1.15  # the unit of heights over that where the left-out clicks are
CONTRADICT, FEWER = 1.5, 1.1  # times the expected number, and this many times fewer, by the peaks alone: look-alikes can only add peaks
OPTIMISM = 0.02  # both ways see no look-alikes: the mean error on the lists of docs/measurements.md; without any one set 0.00 to 0.03
FEW = 3.0  # if only one in this many expected particles is there: a warning
SURPRISING = 2.0  # times the number expected, picks
_FEW_ADVICE = "it seems to hold few particles or none, or they hardly stand out; look at its picks, or give `count`"


@dataclass(frozen=True, slots=True)
class Promise:
    """F1 and precision that are to be expected; NaN where they can't be told, with the reason.

    Parameters
    ----------
    advice
        What a person should look at, beyond that; None: nothing.
    is_lack
        Whether the reason is what the run lacks: the same for all its tomograms.
    """

    f1: float
    precision: float
    doubt: str | None = None
    advice: str | None = None
    is_lack: bool = False

    def to_json(self) -> dict[str, float | str | None]:
        """F1, precision and the reason, for a journal; None where there is none."""
        is_told = self.doubt is None
        return {
            "f1": round(self.f1, 3) if is_told else None,
            "precision": round(self.precision, 3) if is_told else None,
            "doubt": self.doubt,
        }

    def __str__(self) -> str:
        if self.doubt is None:
            return f"F1 {self.f1:.2f} and precision {self.precision:.2f} are to be expected"
        return f"how good {'the picks' if self.is_lack else 'they'} are can't be told: {self.doubt}"


def untold(doubt: str, advice: str | None = None, *, is_lack: bool = False) -> Promise:
    """No promise."""
    return Promise(math.nan, math.nan, doubt, advice, is_lack)


def fewer_than_clicked(picks: int, clicked: int) -> Promise:
    """No promise: the scores tell of fewer particles than are known to be there."""
    return untold(
        f"its scores would choose {picks}, though {clicked} particles were clicked there, so that the best {clicked} are taken",
        "the scores likely tell too few in the other tomograms too: give `expected`, as well as you know it, or `count`",
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """What was chosen: picks, and particles that there seem to be; and the number expected, a person's guess or an estimate from the clicks."""

    picks: int
    particles: float
    expected: int
    is_estimate: bool


def promised(model: PeakModel, heights: Heights, clicks: ClickHeights | None, seen: Seen) -> Promise:
    """What may be expected of the best picks; see the module's text."""
    known = heights.values
    doubt = _contradiction(model, seen) or _lack(clicks, seen)
    if doubt is not None:
        return doubt
    if clicks is None:
        raise TypeError("without clicks nothing is promised")
    left_out = np.array(clicks.left_out)
    if not ALIKE[0] < float(np.median(known[: max(1, round(seen.particles))])) / max(float(np.median(left_out)), 1e-9) < ALIKE[1]:
        return untold("its best peaks stand not as high as the clicks do, but higher or lower: another contrast, or something else")
    if clicks.unit is not None and not NOISE[0] < heights.unit / clicks.unit < NOISE[1]:
        return untold("its noise is not as in the tomograms of the left-out clicks: another contrast, or other contents")
    among = int(np.count_nonzero(left_out >= known[min(seen.picks, len(known)) - 1]))
    likely = (among + 1) / (len(left_out) + 2)  # Laplace's rule of succession
    if math.sqrt(likely * (1 - likely) / (len(left_out) + 2)) > SURE:
        return untold(f"{among} of {len(left_out)} left-out clicks are among the picks, which tells the recall too roughly; more would do")
    recall = among / len(left_out)
    chances = model.probability(model.nearest(max(seen.particles, 1.0)), known[: seen.picks])
    by_peaks, by_clicks = float(chances.sum()), min(seen.particles * recall, float(seen.picks))
    f1 = [2 * found / (seen.picks + seen.particles) for found in (by_peaks, by_clicks)]
    if abs(f1[0] - f1[1]) > AGREE:
        return untold(f"by the peaks' scores F1 would be {f1[0]:.2f}, by the {len(left_out)} left-out clicks {f1[1]:.2f}")
    precision = (by_peaks + by_clicks) / 2 / seen.picks
    return Promise(max(0.0, sum(f1) / 2 - OPTIMISM), max(0.0, precision - OPTIMISM))


def _contradiction(model: PeakModel, seen: Seen) -> Promise | None:
    """Whether the peaks say another number than the one expected."""
    alone, expected = model.best, seen.expected
    where = f"where {expected} are {'estimated from the clicks' if seen.is_estimate else 'expected'}"
    other = "`expected`, as well as you know it," if seen.is_estimate else "another `expected`,"
    if seen.picks < 1 or seen.particles < expected / FEW:
        return untold(f"about {seen.particles:.0f} particles by the scores, {where}", _FEW_ADVICE)
    if seen.picks > SURPRISING * expected:
        return untold(f"{seen.picks} picks are far more than expected, {where}", "look at them, or give `count`")
    if alone > CONTRADICT * expected:
        return untold(
            f"about {alone:.0f} peaks stand as high as particles, {where}: look-alikes, or more particles",
            f"label some places that are no particles (column `label`, 0), or give {other} or `count`",
        )
    if alone < expected / FEWER:
        text = f"only about {alone:.0f} peaks stand as high as particles, {where}"
        advice = f"look at the last picks, and give {other} or `count`" if alone < expected / CONTRADICT else None
        return untold(text, _FEW_ADVICE if alone < expected / FEW else advice)
    return None


def _lack(clicks: ClickHeights | None, seen: Seen) -> Promise | None:
    """What is lacking for a promise."""
    if clicks is None or len(clicks.left_out) < LEFT_OUT:
        return untold(
            f"that takes {LEFT_OUT} clicks or more that training did not learn from; click some in another tomogram, name the table as "
            "labels.validate, and train again",
            is_lack=True,
        )
    if clicks.shape is None:
        return untold(
            "hardly any click that training did not learn from has a peak near it", "check the clicks (axes, unit) and the radius"
        )
    if seen.is_estimate:
        return untold(
            "the number of particles is estimated from the clicks, and the estimate counts look-alikes too; give `expected`, as well as you know it",
            is_lack=True,
        )
    return None
