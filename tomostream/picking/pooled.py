"""How does mean-pooling reach a wanted count?  With the peaks at the usual cut first, then, if they are too few, with those at lower cuts.

Scores are binarised at 0.5, which gives some number of peaks.  A lower cut gives more, but then hills merge, or a whole
background rises above it.  A lower cut therefore only adds peaks:

1. The peaks at 0.5, by their pooled scores.
2. While there are fewer than wanted: the peaks at the next lower cut that are farther than the least distance from all so far.

A pick's score is its cut, plus its pooled score as a fraction of the step to the next higher cut: it falls with the rank.
With a given threshold there is one cut, and the scores are the pooled ones.
"""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from tomostream.picking.blocks import pick_volume
from tomostream.picking.how_many import Above, Best
from tomostream.picking.mean_pool import MeanPool
from tomostream.picking.protocol import Execution, PickRequest, Picks, Source
from tomostream.progress import Progress

CUTS = (0.5, 0.2, 0.1, 0.05, 0.02)  # probabilities
_NO_PROGRESS = Progress()


@dataclass(frozen=True, slots=True)
class MeanPoolPicker:
    """The picker `mean-pool`: peaks of the pooled binary scores."""

    name: str = "mean-pool"
    needs_count: bool = False

    def pick(self, source: Source, request: PickRequest, execution: Execution, progress: Progress = _NO_PROGRESS) -> Picks:
        """Pick by mean-pooling.

        A threshold is where scores are binarised; without one it is 0.5, and lower where the count needs it.  Without a count all peaks at the
        one cut are picks.

        Raises
        ------
        InputError
            If the radius or the threshold is impossible.
        """
        most = None if request.how_many is None else request.how_many.most
        threshold = None if request.how_many is None else request.how_many.above
        peaks_wanted = replace(request, how_many=Above(0.0) if most is None else Best(most, 0.0))

        def peaks_at(cut: float) -> Picks:
            pool = MeanPool.for_radius(request.radius, threshold=cut)
            return pick_volume(source, peaks_wanted, execution, pool=pool, progress=progress)

        if threshold is not None:
            return peaks_at(threshold)
        found = Picks.none()
        for above, cut in itertools.pairwise((1.0, *(CUTS[:1] if most is None else CUTS))):
            peaks = peaks_at(math.log(cut / (1 - cut)) if source.values == "logit" else cut)
            is_new = _distances(peaks.index_zyx, found.index_zyx) > request.radius
            found = Picks(
                np.concatenate([found.index_zyx, peaks.index_zyx[is_new]])[:most],
                np.concatenate([found.score, cut + (above - cut) * peaks.score[is_new]])[:most],
            )
            if most is None or len(found) == most:
                break
        return found


def _distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the distance of each point to the nearest other point; infinite if there is none."""
    nearest = np.full(len(points), np.inf)
    for start in range(0, len(points), 256):  # bounds the table of distances
        part = points[start : start + 256, None, :] - others[None, :, :]
        nearest[start : start + 256] = np.sqrt((part.astype(np.float64) ** 2).sum(axis=2)).min(axis=1, initial=np.inf)
    return nearest


PICKER = MeanPoolPicker()
