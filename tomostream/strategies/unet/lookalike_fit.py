"""Learn from the best picks of the training tomograms what tells particles from look-alikes, and with what weight it is added.

1. Pick the best places in the scored boxes of the clicked tomograms, from the sum of network, head and filter; with several boxes the ranks are
   those within a box, over the number of particles expected there.
2. Take their profiles (`shells`) and split them (`populations`).  If the split does not tell particles from look-alikes, or the clicks contradict it,
   nothing is added: most of the picks on clicks must be particles by it.  If there seem to be as many particles beyond the N-th pick, N may be too
   small, and larger ones are tried (`FACTORS`).
3. A log odds of `LIMIT` weighs as much as three standard deviations of the scores of the best 2 N picks, N being the expected number.
4. The new sum is multiplied so that the best 2 N picks spread as before; else probabilities would be too near 0 and 1 to be told apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64

from tomostream import defaults
from tomostream.geometry import Box, Triple
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.picking.protocol import Picks
from tomostream.strategies.matched_filter.correlation import CorrelationScorer
from tomostream.strategies.matched_filter.profile import Reader
from tomostream.strategies.unet.fusion import PIECE_VOX
from tomostream.strategies.unet.lookalikes import LIMIT, LookAlikes
from tomostream.strategies.unet.populations import CANDIDATES, MOST_UNSURE, Populations, fit_populations, most_odds, particles_beyond, tells
from tomostream.strategies.unet.shells import profiles_at

LIMIT_SDS = 3.0  # weight of a log odds of `LIMIT`, in standard deviations of the scores of the best picks
LEAST_CLICKS = (
    0.6  # of the picks on clicks, those that must be particles by the split; measured: 0.7 to 1 where it helps, 0.4 where it does not
)
FACTORS = (1.0, 1.5, 2.0)  # times the expected number, tried in turn
_FEWEST = 2  # expected particles


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A scored box of a training tomogram.

    Parameters
    ----------
    read
        Function that reads standardised boxes of the tomogram; voxels outside of it are 0.
    shape
        Of the tomogram.
    box
        The box.
    logits
        Of one species in the box: the sum of network, head and filter.
    clicks
        Clicked positions z y x of the species in the tomogram, voxels of the level.
    expected
        Particles expected there; 0: the box has no say, because the number is only guessed, as in a tomogram without clicks.
    """

    read: Reader
    shape: Triple
    box: Box
    logits: Float32[np.ndarray, "z y x"]
    clicks: Float64[np.ndarray, "n 3"]
    expected: float


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """What tells the look-alikes of one species."""

    populations: Populations
    most: float  # upper limit of the log odds
    weight: float  # logits per log odds
    spread: float  # standard deviation of the scores of the best 2 N picks, before
    scale: float = 1.0  # what the sum is multiplied by


def split_picks(parts: Sequence[Part], *, radius: float, weight: float, memory: int) -> Split | None:
    """Split the best picks of the scored boxes into particles and look-alikes; None if they are not two kinds.

    Parameters
    ----------
    parts
        The boxes.
    radius
        Of the particle, voxels of the level.
    weight
        `matched_filter.look_alikes`.
    memory
        Budget of picking, in bytes.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    for factor in FACTORS if weight > 0 else ():
        more = [replace(part, expected=factor * part.expected) for part in parts]
        found, is_too_small = _split(more, radius=radius, weight=weight, memory=memory)
        if not is_too_small:
            return found
    return None


def _split(parts: Sequence[Part], *, radius: float, weight: float, memory: int) -> tuple[Split | None, bool]:
    """Split the best picks for one number of particles; also return whether it seems to be too small."""
    number = round(sum(part.expected for part in parts))
    if number < _FEWEST:
        return None, False
    profiles: list[np.ndarray] = []
    ranks: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    clicked: list[np.ndarray] = []
    for part in parts:
        if part.expected <= 0:
            continue
        picks = _best(part.logits, part.expected, radius, memory)
        places = (picks.index_zyx + np.array(part.box.start))[: math.ceil(CANDIDATES * part.expected)]
        profiles.append(profiles_at(part.read, places, support=defaults.SUPPORT * radius, floor=defaults.MATCHED_FLOOR))
        ranks.append(np.arange(len(places)) / part.expected)
        clicked.append(profiles[-1][_on_clicks(places, part.clicks, radius)])
        scores.append(picks.score)
    in_order = np.concatenate(profiles)[np.argsort(np.concatenate(ranks), kind="stable")]
    if len(in_order) < number + _FEWEST:
        return None, False
    populations = fit_populations(in_order, number)
    on_clicks = populations.log_odds(np.concatenate(clicked)) > 0
    if particles_beyond(populations, in_order, number) > MOST_UNSURE:
        return None, True
    if not tells(populations, in_order, number) or not len(on_clicks) or on_clicks.mean() < LEAST_CLICKS:
        return None, False
    spread = _spread(scores)
    split = Split(populations, most_odds(populations, in_order, number), weight * LIMIT_SDS / LIMIT * spread, spread)
    return split, False


def _best(logits: np.ndarray, expected: float, radius: float, memory: int) -> Picks:
    return pick_array(logits, radius=radius, how_many=Best(math.ceil(2 * expected)), memory=memory)


def _spread(scores: Sequence[np.ndarray]) -> float:
    return float(np.std(np.concatenate(scores), dtype=np.float64))


def _on_clicks(places: np.ndarray, clicks: np.ndarray, radius: float) -> np.ndarray:
    """Return the numbers of the places that are the nearest to a click, and at most a radius away."""
    if not len(places) or not len(clicks):
        return np.empty(0, dtype=np.int64)
    distance = np.sqrt(((clicks[:, None] - places[None]) ** 2).sum(axis=2))
    return np.unique(distance.argmin(axis=1)[distance.min(axis=1) <= radius])


def settings_of(splits: Sequence[Split | None]) -> LookAlikes | None:
    """Return the settings of a model whose species have these splits; None if no look-alikes are told."""
    if not any(splits):
        return None
    return LookAlikes(
        shells=tuple(() if one is None else tuple(tuple(map(float, row)) for row in one.populations.weights) for one in splits),
        offset=tuple(() if one is None else tuple(map(float, one.populations.offsets)) for one in splits),
        most=tuple(0.0 if one is None else one.most for one in splits),
        weight=tuple(0.0 if one is None else one.weight for one in splits),
        scale=tuple(1.0 if one is None else one.scale for one in splits),
    )


def tell_apart(split: Split, parts: Sequence[Part], *, radius: float, memory: int) -> tuple[Split, list[Float32[np.ndarray, "z y x"]]]:
    """Return the split with its scale, and for each scored box the logits with what the split adds.

    Parameters
    ----------
    split
        What `split_picks` found in the boxes.
    parts, radius, memory
        As of `split_picks`.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    alone = settings_of([split])
    if alone is None:
        raise TypeError("nothing is told of this species")
    scorer = CorrelationScorer(alone.targets(0, defaults.SUPPORT * radius), floor=defaults.MATCHED_FLOOR, threads=None, piece=PIECE_VOX)
    sums: list[np.ndarray] = []
    for part in parts:
        window = scorer.read_box(part.box, part.shape)
        sums.append(part.logits + alone.term(0, scorer.logits(part.read(window), window, part.box, part.shape)))
    best = [_best(total, part.expected, radius, memory).score for total, part in zip(sums, parts, strict=True) if part.expected > 0]
    scale = split.spread / max(_spread(best), 1e-6)
    return replace(split, scale=scale), [np.float32(scale) * total for total in sums]
