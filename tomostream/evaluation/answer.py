"""The shape of `evaluation.json`, and of what `evaluate --json` prints."""

from typing import NotRequired, TypedDict


class ScoresAnswer(TypedDict):
    """Counts and ratios; `f_beta` where beta is not 1."""

    f1: float
    precision: float
    recall: float
    tp: int
    fp: int
    fn: int
    f_beta: NotRequired[float]


class TomogramsAnswer(TypedDict):
    """Those of all tomograms together, and of each by its name."""

    pooled: ScoresAnswer
    tomograms: dict[str, ScoresAnswer]


class EvaluationAnswer(TomogramsAnswer):
    """Those of all species together; and of each by its name, where there are several."""

    species: NotRequired[dict[str, TomogramsAnswer]]


def parts_of(answer: EvaluationAnswer) -> list[tuple[str | None, TomogramsAnswer]]:
    """Return each species' part with its name; of one species the whole, without."""
    if "species" not in answer:
        return [(None, answer)]
    return [(name, part) for name, part in answer["species"].items()]
