"""True positives, false positives, false negatives, and their ratios.

0 / 0 counts as 0, so that an empty table of picks has precision 0, not 1.  But if there is neither a pick nor a true particle, nothing is
wrong, and all ratios are 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from tomostream.evaluation.answer import ScoresAnswer


@dataclass(frozen=True, slots=True)
class Scores:
    """Counts of one evaluation; `+` pools them.

    Parameters
    ----------
    tp
        True particles that were found.
    fp
        Picks without a true particle.
    fn
        True particles that were not found.

    Examples
    --------
    >>> Scores(tp=6, fp=2, fn=2).f1
    0.75
    """

    tp: int
    fp: int
    fn: int

    def __add__(self, other: Scores) -> Scores:
        return Scores(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """Share of the picks that are correct, tp / (tp + fp)."""
        return self._ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of the true particles that are found, tp / (tp + fn)."""
        return self._ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return self.f_beta(1.0)

    def f_beta(self, beta: float) -> float:
        """Weighted harmonic mean of precision and recall; recall weighs `beta` times as much.

        References
        ----------
        van Rijsbergen (1979), "Information Retrieval", chapter 7: (1 + b^2) tp / ((1 + b^2) tp + b^2 fn + fp).
        """
        weight = beta * beta
        return self._ratio((1 + weight) * self.tp, (1 + weight) * self.tp + weight * self.fn + self.fp)

    def to_json(self, *, beta: float = 1.0) -> ScoresAnswer:
        """Return counts and ratios as plain values, with `f_beta` if `beta` is not 1."""
        values: ScoresAnswer = {
            "f1": self.f1,
            "precision": self.precision,
            "recall": self.recall,
            "tp": self.tp,
            "fp": self.fp,
            "fn": self.fn,
        }
        if beta != 1:
            values["f_beta"] = self.f_beta(beta)
        return values

    def _ratio(self, part: float | int, whole: float | int) -> float:
        if self.tp == self.fp == self.fn == 0:
            return 1.0
        return part / whole if whole else 0.0
