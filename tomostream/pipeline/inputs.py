"""What is wrong with the inputs of a run, told before any work: a slip in a table must not show after hours of it."""

from __future__ import annotations

from collections.abc import Sequence

from tomostream.errors import InputError
from tomostream.picking.pickers import GREEDY
from tomostream.pipeline.regions import check_region
from tomostream.stages.picks.expected_count import check_count_is_knowable
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.stages.tables.stage import table_paths
from tomostream.stages.training.inputs import check_positions


def check_inputs(run: ResolvedRun, stages: Sequence[str]) -> None:
    """Refuse a run whose clicks don't fit the tomograms, whose picks could not be counted, or whose truth is not there.

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
    if run.truth is not None and "evaluate" in stages:
        table_paths(run.truth)


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
