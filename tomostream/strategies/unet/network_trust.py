"""How far the trained network may be trusted, by the ranks that it gives to the clicks it learnt from.

A network that ranks even those clicks low has learnt nothing that helps: its sum with a good filter would be worse than the filter alone.  So its
logits are multiplied by a share of at most 1.  The ranks flatter the network, which has seen these clicks; so a low share is well founded, and a
share of 1 is no praise.  Beside a blind filter, which weighs nothing, the network keeps its weight.

1. The clicks are those that were left out in turn to judge the filter (`pretrained.evidence`).  One that neither the filter nor the network finds may
   lie beside its particle, so that it proves nothing.
2. The number of particles by the ranks (`evidence.number_of`) is compared with the expected one, as for the filter (`gathering.trust_in`).
3. The share is rounded to a power of 2, so that a later training can start from exactly the weights that were learnt (`starting`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tomostream.geometry import Box
from tomostream.strategies.sample_boxes import AROUND, box_around
from tomostream.strategies.unet.expected_number import known_number
from tomostream.strategies.unet.gathering import TRUSTED, Gathered, Told
from tomostream.strategies.unet.pretrained.evidence import FEWEST_RANKS, number_of, peaks_of, rank_of

if TYPE_CHECKING:
    from tomostream.progress import Progress
    from tomostream.strategies.training_set import Training
    from tomostream.strategies.unet.sampled_logits import Scored

LEAST = 2.0**-6  # share of a network that is worth nothing; not 0, so that its weights can be restored


def boxes_around_clicks(training: Training, told: Sequence[Told]) -> list[tuple[int, Box]]:
    """Return a box around each judged click, with its tomogram's index among the training tomograms: species by species."""
    boxes: list[tuple[int, Box]] = []
    for one, radius in zip(told, training.radii_vox, strict=True):
        for name, point in one.judged:
            number = training.labelled.names.index(name)
            boxes.append((number, box_around(point, AROUND * radius, training.labelled.tomograms[number].shape)))
    return boxes


def network_shares(
    training: Training, gathered: Gathered, scored: Sequence[Scored], around: Sequence[Scored], progress: Progress
) -> list[float]:
    """Return, per species, the share of its weight that the trained network keeps; log where it is below 1.

    Parameters
    ----------
    training
        Settings, with expected numbers given or estimated, and tomograms.
    gathered
        What the clicks say.
    scored
        Random boxes scored by the network.
    around
        The scored boxes of `boxes_around_clicks`.
    progress
        Receives the log lines.
    """
    clicked = {training.labelled.names.index(name) for name in training.labelled.clicked.names}
    background = [one for one in scored if one.tomogram in clicked]
    voxels = [math.prod(training.labelled.tomograms[number].shape) for number in clicked]
    share = sum(one.box.size for one in background) / sum(voxels)  # of the clicked tomograms that the boxes cover
    left = list(around)
    shares: list[float] = []
    for number, (told, radius) in enumerate(zip(gathered.told, training.radii_vox, strict=True)):
        own, left = left[: len(told.judged)], left[len(told.judged) :]
        others = np.sort(np.concatenate([peaks_of(one.logits[number], radius=radius)[1] for one in background]))
        places = [point - np.array(one.box.start) for (_, point), one in zip(told.judged, own, strict=True)]
        ranks = [rank_of(one.logits[number], place, others, radius=radius) for one, place in zip(own, places, strict=True)]
        kept = told.network_share
        if kept is None and not told.verdict.is_blind and ranks:
            is_found = [rank < len(others) or above < 1 for rank, above in zip(ranks, told.verdict.shares, strict=True)]
            told_by = [rank / share for rank, found in zip(ranks, is_found, strict=True) if found]
            kept = share_of(told_by, known_number(training, number))
        shares.append(1.0 if kept is None else kept)
        if shares[-1] < 1 and ranks:
            among = sum(rank < len(others) for rank in ranks)
            progress.say(
                f"{training.settings.species[number].name}: the network weighs 1/{round(1 / shares[-1])} of what it usually does, because it ranks the clicks "
                f"that it learnt from low (it has a peak near {among} of {len(ranks)})"
            )
    return shares


def share_of(ranks: Sequence[float], expected: float | None) -> float:
    """Return the share of its weight that a network keeps: a power of 2, from `LEAST` to 1.

    Parameters
    ----------
    ranks
        Ranks of its own clicks in all clicked tomograms together, from 0.
    expected
        Expected number of particles there; None: unknown, and the network is trusted.
    """
    if expected is None or len(ranks) < FEWEST_RANKS:
        return 1.0
    share = min(1.0, TRUSTED * expected / number_of(ranks))
    return float(max(LEAST, 2.0 ** round(math.log2(share))))
