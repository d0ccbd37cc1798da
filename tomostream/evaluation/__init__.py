"""Evaluation of picks against known positions.

`counts` holds what is counted, `matching` decides which pick and which truth belong together, `curves` does so for every score
threshold at once, `tables` does it per tomogram and species.
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
