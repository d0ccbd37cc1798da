"""Check the inputs of a run before any work, so that a mistake in a table does not show after hours of computation."""

from __future__ import annotations

from collections.abc import Sequence

from tomostream.config import Configuration
from tomostream.errors import InputError
from tomostream.picking.pickers import takes_candidates, taking_candidates
from tomostream.pipeline.regions import check_region
from tomostream.progress import Progress
from tomostream.stages.picks.expected_count import check_count_is_knowable
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.stages.shared.species_runs import species_runs
from tomostream.stages.training.inputs import check_positions


def check_inputs(run: ResolvedRun, stages: Sequence[str]) -> None:
    """Check that the project folder can be made, that clicks and region fit the tomograms, and that the number of picks can be known.

    Raises
    ------
    InputError
        For the first problem found.
    """
    run.project.check()
    if run.predict.keep == "candidates":
        _check_candidates(run)
    if {"train", "pick"} <= set(stages):
        check_count_is_knowable(run)
    if run.clicks is not None:
        for one in species_runs(run):
            one.strategy.fingerprint(one.learning)
        check_positions(run)
    check_region(run)


def without_unreadable(run: ResolvedRun, progress: Progress) -> ResolvedRun:
    """The run without the tomograms that can't be read, which are told.

    Raises
    ------
    TomostreamError
        If none can be read: what is wrong with the first.
    """
    broken = run.unreadable
    if len(broken) == len(run.tomograms):
        raise next(iter(broken.values()))
    for name, why in broken.items():
        progress.warn(f"{name} is left out: {why}")
    return run.without(set(broken)) if broken else run


def uses_truth(configuration: Configuration, stages: Sequence[str]) -> bool:
    """Whether one of the stages needs the truth (the report reads it by itself, if it can)."""
    return "evaluate" in stages or ("pick" in stages and configuration.pick.count == "truth")


def _check_candidates(run: ResolvedRun) -> None:
    """Refuse `predict.keep: candidates` if picking needs more than candidates."""
    method = run.pick.method or run.strategy.picker
    if not takes_candidates(method):
        allowed = " or ".join(f"'{name}'" for name in taking_candidates())
        raise InputError(
            f"predict.keep: candidates are enough for the picker {allowed} only, found the picker '{method}'; give `keep: scores`"
        )
    for key, given in (("smooth", run.pick.smooth), ("border", run.pick.border)):
        if given is not None:
            raise InputError(
                f"pick.{key}: {given} needs the whole score map, but predict.keep is `candidates`; give `predict: {{keep: scores}}`, or leave the key out"
            )
