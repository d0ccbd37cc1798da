"""What is wrong with the inputs of a run, told before any work: a slip in a table must not show after hours of it."""

from __future__ import annotations

from collections.abc import Sequence

from tomostream.config import Configuration
from tomostream.errors import InputError
from tomostream.picking.pickers import GREEDY
from tomostream.pipeline.regions import check_region
from tomostream.stages.picks.expected_count import check_count_is_knowable
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.stages.training.inputs import check_positions


def check_inputs(run: ResolvedRun, stages: Sequence[str]) -> None:
    """Refuse a run whose clicks don't fit the tomograms, or whose picks could not be counted.

    Raises
    ------
    InputError
        Of the first of these.
    """
    if run.predict.keep == "candidates":
        _check_candidates(run)
    if {"train", "pick"} <= set(stages):
        check_count_is_knowable(run)
    if run.clicks is not None:
        run.strategy.fingerprint(run.learning)
        check_positions(run)
    check_region(run)


def uses_truth(configuration: Configuration, stages: Sequence[str]) -> bool:
    """Whether one of the stages needs the truth; the report does without, and reads it by itself."""
    return "evaluate" in stages or ("pick" in stages and configuration.pick.count == "truth")


def _check_candidates(run: ResolvedRun) -> None:
    """Refuse to keep candidates only, where picking needs more."""
    method = run.pick.method or run.strategy.picker
    if method != GREEDY:
        raise InputError(
            f"predict.keep: candidates are what the picker '{GREEDY}' needs, but picks are to be made by '{method}'; give `keep: scores`"
        )
    for key, given in (("smooth", run.pick.smooth), ("border", run.pick.border)):
        if given is not None:
            raise InputError(
                f"pick.{key}: {given} needs more than candidates of the scores; give `predict: {{keep: scores}}`, or leave it out"
            )
