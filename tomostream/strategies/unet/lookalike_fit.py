"""Learn from the best picks of the training tomograms what tells particles from look-alikes, and with what weight it is added.

1. Pick the best places in the scored boxes of the clicked tomograms, from the sum of network, head and filter; with several boxes the ranks are
   those within a box, over the number of particles expected there.
2. Take their profiles (`shells`) and split them (`populations`).  If the split does not tell particles from look-alikes, nothing is added.
3. A log odds of `LIMIT` weighs as much as three standard deviations of the scores of the best 2 N picks, N being the expected number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from tomostream import defaults
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.strategies.matched_filter.kernels import padded_reader
from tomostream.strategies.unet.lookalikes import LIMIT, LookAlikes, Teller
from tomostream.strategies.unet.populations import CANDIDATES, Populations, fit_populations, tells
from tomostream.strategies.unet.shells import profiles_at, support_of

if TYPE_CHECKING:
    from tomostream.strategies.training_set import Labelled
    from tomostream.strategies.unet.sampled_logits import Scored

LIMIT_SDS = 3.0  # weight of a log odds of `LIMIT`, in standard deviations of the scores of the best picks
_FEWEST = 2  # expected particles


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """What tells the look-alikes of one species."""

    populations: Populations
    weight: float  # logits per log odds


def split_picks(
    labelled: Labelled,
    scored: Sequence[Scored],
    sums: Sequence[Float32[np.ndarray, "z y x"]],
    expected: Sequence[float],
    *,
    radius: float,
    weight: float,
    memory: int,
) -> Split | None:
    """Split the best picks of the scored boxes into particles and look-alikes; None if they are not two kinds.

    Parameters
    ----------
    labelled
        The training tomograms.
    scored
        Boxes of them.
    sums
        Logits of one species in each box.
    expected
        Particles expected in each box; those in tomograms without clicks are only guessed, and are not used.
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
    clicked = labelled.clicked.names
    expected = [count if labelled.names[one.tomogram] in clicked else 0.0 for one, count in zip(scored, expected, strict=True)]
    number = round(sum(expected))
    if weight == 0 or number < _FEWEST:
        return None
    support = support_of(radius)
    profiles: list[np.ndarray] = []
    ranks: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    for one, total, count in zip(scored, sums, expected, strict=True):
        if count <= 0:
            continue
        picks = pick_array(total, radius=radius, how_many=Best(math.ceil(2 * count)), memory=memory)
        places = (picks.index_zyx + np.array(one.box.start))[: math.ceil(CANDIDATES * count)]
        profiles.append(profiles_at(padded_reader(labelled.tomograms[one.tomogram]), places, support=support, floor=defaults.MATCHED_FLOOR))
        ranks.append(np.arange(len(places)) / count)
        scores.append(picks.score)
    in_order = np.concatenate(profiles)[np.argsort(np.concatenate(ranks), kind="stable")]
    if len(in_order) < number + _FEWEST:
        return None
    populations = fit_populations(in_order, number)
    if not tells(populations, in_order, number):
        return None
    return Split(populations, weight * LIMIT_SDS / LIMIT * float(np.std(np.concatenate(scores), dtype=np.float64)))


def settings_of(splits: Sequence[Split | None], radii: Sequence[float]) -> LookAlikes | None:
    """Return the settings of a model whose species have these splits and radii; None if no look-alikes are told."""
    if not any(splits):
        return None
    return LookAlikes(
        support_vox=tuple(support_of(radius) for radius in radii),
        floor=defaults.MATCHED_FLOOR,
        shells=tuple(() if one is None else tuple(tuple(map(float, row)) for row in one.populations.weights) for one in splits),
        offset=tuple(() if one is None else tuple(map(float, one.populations.offsets)) for one in splits),
        weight=tuple(0.0 if one is None else one.weight for one in splits),
    )


def terms_of(split: Split, radius: float, labelled: Labelled, scored: Sequence[Scored]) -> list[Float32[np.ndarray, "z y x"]]:
    """Return, for each scored box, what is added to the logits of the species that is split.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read.
    """
    alone = settings_of([split], [radius])
    if alone is None:
        raise TypeError("nothing is told of this species")
    teller = Teller(alone, 0, threads=None)
    result: list[np.ndarray] = []
    for one in scored:
        tomogram = labelled.tomograms[one.tomogram]
        window = teller.correlation.read_box(one.box, tomogram.shape)
        result.append(teller.term(tomogram.read_standardised(window), window, one.box, tomogram.shape))
    return result
