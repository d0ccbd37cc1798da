"""How does mean-pooling serve a wanted count?  With the peaks at the usual cut first, then, where they are too few, those at lower cuts.

Scores are binarised at 0.5, which gives some number of peaks.  Who wants more lowers the cut; but then hills melt into each other, or a whole
background rises above it.  So a lower cut only adds:

1. The peaks at 0.5, by their pooled scores.
2. While there are fewer than wanted: the peaks at the next lower cut that are farther than the least distance from all so far.

A pick's score is its cut, plus the share that its pooled score makes of the way to the next higher cut: it falls with the rank.
With a given threshold there is one cut, and the scores are the pooled ones.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np

from tomostream.picking.blocks import Picks
from tomostream.picking.mean_pool import MeanPool

CUTS = (0.5, 0.2, 0.1, 0.05, 0.02)  # probabilities


def pick_pooled(pick: Callable[[MeanPool], Picks], *, radius: float, threshold: float | None, count: int | None, as_logits: bool) -> Picks:
    """Pick by mean-pooling.

    Parameters
    ----------
    pick
        `blocks.pick_volume`, with all but the pooling given: threshold 0, the same radius and count.
    radius
        Of the particle and least distance of two picks, voxels.
    threshold
        Where scores are binarised; None: 0.5, and lower where the count needs it.
    count
        Picks wanted; None: all peaks at the one cut.
    as_logits
        Whether the scores are logits, not probabilities.

    Raises
    ------
    InputError
        If the radius or the threshold is impossible.
    """
    if threshold is not None:
        return pick(MeanPool.for_radius(radius, threshold=threshold))
    cuts = CUTS[:1] if count is None else CUTS
    found = Picks(np.empty((0, 3), dtype=np.int64), np.empty(0))
    for above, cut in itertools.pairwise((1.0, *cuts)):
        peaks = pick(MeanPool.for_radius(radius, threshold=math.log(cut / (1 - cut)) if as_logits else cut))
        is_new = _distances(peaks.index_zyx, found.index_zyx) > radius
        found = Picks(
            np.concatenate([found.index_zyx, peaks.index_zyx[is_new]])[:count],
            np.concatenate([found.score, cut + (above - cut) * peaks.score[is_new]])[:count],
        )
        if count is None or len(found) == count:
            break
    return found


def _distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each point to the nearest of the others; infinite where there is none."""
    nearest = np.full(len(points), np.inf)
    for start in range(0, len(points), 256):  # bounds the table of distances
        part = points[start : start + 256, None, :] - others[None, :, :]
        nearest[start : start + 256] = np.sqrt((part.astype(np.float64) ** 2).sum(axis=2)).min(axis=1, initial=np.inf)
    return nearest
