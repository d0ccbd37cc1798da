"""Precision and recall at every score threshold, in one pass.

A threshold t keeps the picks that score t or more.  Lowering it only adds picks, so the counts follow from events:

- `any`: a true particle is found at the best score of the picks near it; a pick without one is false at its own score.
- `one-to-one`: picks are added by falling score, and each tries to raise the number of pairs by one along an augmenting path (Berge).
  Whether it can does not depend on which pairs were chosen before, so the counts are those of a new assignment at each threshold.  A
  search that fails need not be repeated: the true particles that it reached have no free partner for any later pick either, and are
  removed.  All searches together cost about one pass over the pairs, and one short path per pick.

References
----------
Berge (1957), "Two theorems in graph theory", PNAS 43, 842-844; average precision: sum over thresholds of (R_i - R_(i-1)) P_i.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from tomostream.errors import InputError
from tomostream.evaluation.counts import Scores
from tomostream.evaluation.matching import check_matching, pairs_within

_NOBODY = -1


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Counts at each threshold, which keeps the picks with scores >= it.

    Parameters
    ----------
    threshold
        The distinct scores, in falling order.
    tp, fp
        Found particles and false picks at each threshold.
    truths
        Number of true particles.
    """

    threshold: Float64[np.ndarray, " k"]
    tp: Int64[np.ndarray, " k"]
    fp: Int64[np.ndarray, " k"]
    truths: int

    @property
    def precision(self) -> Float64[np.ndarray, " k"]:
        """Precision at each threshold."""
        return np.array([self.scores_at(i).precision for i in range(len(self.threshold))], dtype=np.float64)

    @property
    def recall(self) -> Float64[np.ndarray, " k"]:
        """Recall at each threshold."""
        return np.array([self.scores_at(i).recall for i in range(len(self.threshold))], dtype=np.float64)

    @property
    def average_precision(self) -> float:
        """Area under the curve as a sum of steps; 0 without true particles or picks."""
        steps = np.diff(self.recall, prepend=0.0)
        return float((steps * self.precision).sum()) if self.truths else 0.0

    @property
    def best(self) -> tuple[float, float]:
        """The threshold with the largest F1 (the highest of several), and that F1; NaN and 0 without picks."""
        f1 = [self.scores_at(i).f1 for i in range(len(self.threshold))]
        if not f1:
            return float("nan"), 0.0
        index = int(np.argmax(f1))
        return float(self.threshold[index]), f1[index]

    def scores_at(self, index: int) -> Scores:
        """Return the counts at one threshold."""
        found = int(self.tp[index])
        return Scores(found, int(self.fp[index]), self.truths - found)


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Changes of the counts as the threshold falls: at each `score`, found particles and false picks grow by `tp` and `fp`."""

    score: Float64[np.ndarray, " k"]
    tp: Int64[np.ndarray, " k"]
    fp: Int64[np.ndarray, " k"]
    truths: int


def precision_recall_curve(
    picks_zyx: Float64[np.ndarray, "n 3"],
    scores: Float64[np.ndarray, " n"],
    truth_zyx: Float64[np.ndarray, "m 3"],
    *,
    tolerance: float,
    matching: str,
) -> Curve:
    """Count at every score threshold what `match` would count for the picks kept.

    Parameters
    ----------
    picks_zyx, truth_zyx, tolerance, matching
        See `match`.
    scores
        Of the picks; not NaN.

    Raises
    ------
    InputError
        If a score is NaN, or `match` would refuse.
    """
    return pooled_curve([events_of(picks_zyx, scores, truth_zyx, tolerance=tolerance, matching=matching)])


def pooled_curve(events: Iterable[Events]) -> Curve:
    """Join the events of several tomograms into the curve of their pooled counts."""
    parts = list(events)
    score = np.concatenate([np.empty(0), *(e.score for e in parts)])
    threshold, where = np.unique(score, return_inverse=True)
    counts = []
    for name in ("tp", "fp"):
        change = np.zeros(threshold.size, dtype=np.int64)
        np.add.at(change, where, np.concatenate([np.empty(0, dtype=np.int64), *(getattr(e, name) for e in parts)]))
        counts.append(np.cumsum(change[::-1]))
    return Curve(threshold[::-1].copy(), counts[0], counts[1], sum(e.truths for e in parts))


def events_of(
    picks_zyx: Float64[np.ndarray, "n 3"],
    scores: Float64[np.ndarray, " n"],
    truth_zyx: Float64[np.ndarray, "m 3"],
    *,
    tolerance: float,
    matching: str,
) -> Events:
    """Return the events of one tomogram; parameters and errors as for `precision_recall_curve`."""
    check_matching(picks_zyx, truth_zyx, tolerance=tolerance, matching=matching)
    unknown = int(np.isnan(scores).sum())
    if unknown:
        raise InputError(f"{unknown} of {len(scores)} picks have no score: a curve over the score needs one for each pick")
    pick, truth, _ = pairs_within(picks_zyx, truth_zyx, tolerance)
    if matching == "one-to-one":
        gains = _gains(pick, truth, scores, len(truth_zyx))
        return Events(scores, gains, 1 - gains, len(truth_zyx))
    best = np.full(len(truth_zyx), -np.inf)
    np.maximum.at(best, truth, scores[pick])
    found = best[np.unique(truth)]
    is_false = np.ones(len(scores), dtype=np.int64)
    is_false[pick] = 0
    return Events(
        np.concatenate([scores, found]),
        np.concatenate([np.zeros(len(scores), dtype=np.int64), np.ones(len(found), dtype=np.int64)]),
        np.concatenate([is_false, np.zeros(len(found), dtype=np.int64)]),
        len(truth_zyx),
    )


def _gains(pick: np.ndarray, truth: np.ndarray, scores: np.ndarray, truths: int) -> np.ndarray:
    """Return 1 for each pick that raises the number of pairs when it is added, best score first, else 0; pairs are sorted by pick."""
    starts = np.searchsorted(pick, np.arange(len(scores) + 1)).tolist()
    neighbours = truth.tolist()
    pick_of = [_NOBODY] * truths
    truth_of = [_NOBODY] * len(scores)
    struck = bytearray(truths)
    gains = np.zeros(len(scores), dtype=np.int64)
    for new in np.argsort(-scores, kind="stable").tolist():
        came_from: dict[int, int] = {}  # for each truth reached, the pick it was reached from
        queue = deque([new])
        free = _NOBODY
        while queue and free == _NOBODY:
            current = queue.popleft()
            for t in neighbours[starts[current] : starts[current + 1]]:
                if struck[t] or t in came_from:
                    continue
                came_from[t] = current
                if pick_of[t] == _NOBODY:
                    free = t
                    break
                queue.append(pick_of[t])
        if free == _NOBODY:
            for t in came_from:
                struck[t] = 1
            continue
        gains[new] = 1
        t = free
        while t != _NOBODY:  # each pick on the path takes the truth it reached, and gives up its own
            current = came_from[t]
            pick_of[t] = current
            truth_of[current], t = t, truth_of[current]
    return gains
