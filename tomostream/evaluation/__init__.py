"""Evaluate picks against true particles.

`counts` has the counts and their ratios, `matching` pairs picks with true particles, `curves` counts at every score threshold, and
`tables` evaluates a data set by tomogram and species.
"""

from tomostream.evaluation.counts import Scores
from tomostream.evaluation.curves import Curve, precision_recall_curve
from tomostream.evaluation.matching import Matching, match
from tomostream.evaluation.tables import Evaluation, ScoringRules, SpeciesEvaluation, evaluate_tables

__all__ = [
    "Curve",
    "Evaluation",
    "Matching",
    "Scores",
    "ScoringRules",
    "SpeciesEvaluation",
    "evaluate_tables",
    "match",
    "precision_recall_curve",
]
