"""The structure of `evaluation.json` and of the output of `evaluate --json`."""

from typing import NotRequired, TypedDict


class ScoresAnswer(TypedDict):
    """Counts and ratios; `f_beta` only if beta is not 1."""

    f1: float
    precision: float
    recall: float
    tp: int
    fp: int
    fn: int
    f_beta: NotRequired[float]


class TomogramsAnswer(TypedDict):
    """Scores of all tomograms together, and of each by name."""

    pooled: ScoresAnswer
    tomograms: dict[str, ScoresAnswer]


class EvaluationAnswer(TomogramsAnswer):
    """Scores of all species together, and of each by name if there are several."""

    species: NotRequired[dict[str, TomogramsAnswer]]


def parts_of(answer: EvaluationAnswer) -> list[tuple[str | None, TomogramsAnswer]]:
    """Return name and part of each species; with a single species, None and the whole answer."""
    if "species" not in answer:
        return [(None, answer)]
    return [(name, part) for name, part in answer["species"].items()]
