"""Match picks with true particles ("truths").

`any`, the rule of the TomoPicker paper: a truth with a pick within the tolerance is found; a pick with no truth within it is false.
One pick may find several truths, and several picks may find the same truth without being false.

`one-to-one`: each pick finds at most one truth, and each truth is found at most once.  Of all such assignments within the tolerance the
one with most pairs is taken, and of several such one with the smallest total distance:

1. Pairs within the tolerance come from two KD-trees.
2. Each truth gets a dummy partner that costs more than any chain of real pairs.  So the cheapest assignment of all truths leaves as few
   as possible to their dummies, and has the smallest distances among those.  This is one sparse linear assignment.

The tolerance is widened by a billionth: a position that is exactly at the tolerance must not be lost when it is written in angstrom and
read back as voxels.

Limits: `one-to-one` holds all pairs within the tolerance in memory, and refuses beyond 20 million of them.

References
----------
Jonker, Volgenant (1987), "A shortest augmenting path algorithm for dense and sparse linear assignment problems", Computing 38.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import KDTree

from tomostream.errors import InputError
from tomostream.evaluation.counts import Scores

MatchingRule = Literal["any", "one-to-one"]
Positions = Float64[np.ndarray, "n 3"]

_SLACK = 1 + 1e-9
_MOST_PAIRS = 20_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """The pairs of picks and truths.

    Parameters
    ----------
    truth_of_pick
        For each pick the index of a truth that it found (under `any` the nearest), or -1.
    pick_of_truth
        For each truth the index of a pick that found it (under `any` the nearest), or -1.
    """

    truth_of_pick: Int64[np.ndarray, " n"]
    pick_of_truth: Int64[np.ndarray, " m"]

    @property
    def scores(self) -> Scores:
        """Counts of found truths, false picks and missed truths."""
        found = int(np.count_nonzero(self.pick_of_truth >= 0))
        return Scores(found, int(np.count_nonzero(self.truth_of_pick < 0)), len(self.pick_of_truth) - found)


def match(picks_zyx: Float64[np.ndarray, "n 3"], truth_zyx: Float64[np.ndarray, "m 3"], *, tolerance: float, matching: str) -> Matching:
    """Match picks with truths.

    Parameters
    ----------
    picks_zyx, truth_zyx
        In one unit, voxels or angstrom.
    tolerance
        Largest distance of a match (<=), in the same unit; above zero.
    matching
        `any` (the paper's) or `one-to-one`.

    Raises
    ------
    InputError
        If the tolerance or the rule is invalid, a position is not finite, or there are too many pairs to assign.

    Examples
    --------
    >>> found = match(np.array([[0.0, 0, 0], [0, 0, 4]]), np.array([[0.0, 0, 3]]), tolerance=5.0, matching="any")
    >>> found.scores
    Scores(tp=1, fp=0, fn=0)
    """
    check_matching(picks_zyx, truth_zyx, tolerance=tolerance, matching=matching)
    if not len(picks_zyx) or not len(truth_zyx):
        return Matching(np.full(len(picks_zyx), -1, dtype=np.int64), np.full(len(truth_zyx), -1, dtype=np.int64))
    if matching == "any":
        return Matching(_nearest(picks_zyx, truth_zyx, tolerance), _nearest(truth_zyx, picks_zyx, tolerance))
    return _assignment(picks_zyx, truth_zyx, tolerance)


def check_matching(picks_zyx: np.ndarray, truth_zyx: np.ndarray, *, tolerance: float, matching: str) -> None:
    """Check the input of `match`."""
    if matching not in get_args(MatchingRule):
        raise InputError(f"matching '{matching}' is unknown; choose one of {', '.join(get_args(MatchingRule))}")
    if not 0 < tolerance < np.inf:
        raise InputError(f"the tolerance of a match must be above zero and finite, found {tolerance}")
    for what, positions in (("picks", picks_zyx), ("truth", truth_zyx)):
        broken = np.flatnonzero(~np.isfinite(positions).all(axis=1))
        if broken.size:
            raise InputError(f"{broken.size} of {len(positions)} positions of the {what} are not finite; the first is row {broken[0]}")


def pairs_within(
    picks_zyx: Float64[np.ndarray, "n 3"], truth_zyx: Float64[np.ndarray, "m 3"], tolerance: float
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Find all pairs within the tolerance; return index of the pick, index of the truth, and distance, sorted by pick, then truth.

    Raises
    ------
    InputError
        If there are too many pairs to hold in memory.
    """
    if not len(picks_zyx) or not len(truth_zyx):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0)
    picks, truth = KDTree(picks_zyx), KDTree(truth_zyx)
    number = int(picks.count_neighbors(truth, tolerance * _SLACK))
    if number > _MOST_PAIRS:
        raise InputError(
            f"{number} pairs of {len(picks_zyx)} picks and {len(truth_zyx)} truths lie within the tolerance {tolerance:g}, at most "
            f"{_MOST_PAIRS} can be compared; use a tolerance of about a particle's radius"
        )
    pairs = picks.sparse_distance_matrix(truth, tolerance * _SLACK, output_type="ndarray")
    order = np.lexsort((pairs["j"], pairs["i"]))  # the tree promises no order
    return pairs["i"][order].astype(np.int64), pairs["j"][order].astype(np.int64), pairs["v"][order].astype(np.float64)


def _nearest(of: np.ndarray, among: np.ndarray, tolerance: float) -> np.ndarray:
    distance, index = KDTree(among).query(of)
    return np.where(distance <= tolerance * _SLACK, index, -1).astype(np.int64)


def _assignment(picks_zyx: np.ndarray, truth_zyx: np.ndarray, tolerance: float) -> Matching:
    truth_of_pick = np.full(len(picks_zyx), -1, dtype=np.int64)
    pick_of_truth = np.full(len(truth_zyx), -1, dtype=np.int64)
    pick, truth, distance = pairs_within(picks_zyx, truth_zyx, tolerance)
    if pick.size:
        reached, row = np.unique(truth, return_inverse=True)
        near, column = np.unique(pick, return_inverse=True)
        rows = np.arange(reached.size)
        # a sparse matrix can't store zeros, so one tolerance is added to every distance; this does not change which assignment is best
        dearer = 3.0 * tolerance * (reached.size + 1)
        weights = np.concatenate([distance + tolerance, np.full(reached.size, dearer)])
        where = [np.concatenate(parts).astype(np.int32) for parts in ((row, rows), (column, near.size + rows))]  # all that scipy 1.14 takes
        costs = coo_array((weights, tuple(where)), shape=(reached.size, near.size + reached.size)).tocsr()
        chosen_rows, chosen_columns = min_weight_full_bipartite_matching(costs)
        real = chosen_columns < near.size
        truths, found = reached[chosen_rows[real]], near[chosen_columns[real]]
        truth_of_pick[found] = truths
        pick_of_truth[truths] = found
    return Matching(truth_of_pick, pick_of_truth)
