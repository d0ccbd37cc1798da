"""`run`: take a data set through all stages, from one configuration.

    convert ─ stats ─ train ─ predict ─ pick ─ evaluate ─ report

1. Resolve the configuration and write it into the project folder.
2. Run the stages in order, or those that are asked for. Each skips results that exist, so a run that was interrupted can be repeated.
3. A tomogram that fails a stage is left out of the later ones and reported at the end.

`dry_run.plan_run` plans the same stages without running them.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from tomostream.config import Configuration
from tomostream.errors import InputError, SomeFailedError, TomostreamError
from tomostream.evaluation import Evaluation
from tomostream.formats.registry import write_table
from tomostream.pipeline.clicked_numbers import tell_fewer_than_clicked
from tomostream.pipeline.dry_run import check_resources, is_trained
from tomostream.pipeline.inputs import check_inputs, uses_truth
from tomostream.pipeline.journal import JOURNAL_FORMAT
from tomostream.pipeline.pick_tasks import pick_tasks
from tomostream.pipeline.regions import inside
from tomostream.pipeline.stage_settings import predict_settings
from tomostream.progress import Progress
from tomostream.project import RUN_LOCK, Project
from tomostream.remote.places import RemotePath
from tomostream.stages.conversion.stage import convert_many
from tomostream.stages.evaluation.stage import EvaluateSettings, evaluate_particles, write_evaluation
from tomostream.stages.picks.stage import PickTask, pick_one
from tomostream.stages.prediction.stage import predict_many
from tomostream.stages.shared.batch import for_each, guarded_disk
from tomostream.stages.shared.particle_tables import conversion_from, read_scored, truth_of
from tomostream.stages.shared.resolved_run import ResolvedRun, resolve
from tomostream.stages.training.click_check import check_clicks
from tomostream.stages.training.click_doubts import tell_doubts
from tomostream.stages.training.inputs import clicks_of
from tomostream.stages.training.placement import train_where_asked
from tomostream.stages.voxel_statistics.stage import stats_many
from tomostream.store.conversion import ConvertSettings
from tomostream.store.locks import exclusive

STAGES = ("convert", "stats", "train", "predict", "pick", "evaluate", "report")


@dataclass(frozen=True, slots=True)
class RunContext:
    """What the stages of one run share.  After failures, later stages get a context whose run lacks the failed tomograms."""

    run: ResolvedRun
    progress: Progress
    overwrite: bool
    stages: tuple[str, ...]
    picked: set[str] = field(default_factory=set)  # tomograms that were picked beside scoring, in this run


def run_project(configuration: Configuration, *, stages: Sequence[str], overwrite: bool, progress: Progress) -> Evaluation | None:
    """Run stages in the order given (none: all of them); return the evaluation, or None without truth.

    Raises
    ------
    TomostreamError
        From the first stage that can't go on; `SomeFailedError` at the end if some tomograms failed and the rest are done.
    """
    wanted = tuple(stages or STAGES)
    run = resolve(configuration, with_clicks="train" in wanted, with_truth=uses_truth(configuration, wanted))
    for doubt in run.truth.doubts if run.truth is not None else ():
        progress.warn(doubt)
    check_inputs(run, wanted)
    check_resources(run, wanted)
    if run.clicks is not None and not is_trained(run):
        tell_doubts(run, progress)
    if run.clicks is not None and not is_trained(run) and not all(run.tomograms[name].is_converted for name in run.clicks.needed):
        check_clicks(run, Progress())  # find wrong clicks before hours of conversion; training checks again and reports
    run.project.create()
    with _held(run.project):
        return _run_stages(RunContext(run, progress, overwrite, wanted))


def _held(project: Project) -> AbstractContextManager[None]:
    """Lock the project folder against a second run.  On an object store the leases of the single results do this instead."""
    if isinstance(project.folder, RemotePath):
        return contextlib.nullcontext()
    return exclusive(project.folder / RUN_LOCK, f"project {project.folder}")


def _run_stages(context: RunContext) -> Evaluation | None:
    run, progress = context.run, context.progress
    run.write_configuration(run.project.resolved)
    progress.record(
        "run", format=JOURNAL_FORMAT, pid=os.getpid(), host=socket.gethostname(), stages=list(context.stages), tomograms=len(run.tomograms)
    )
    steps: dict[str, Callable[[RunContext], Evaluation | None]] = {
        "convert": _convert,
        "stats": _stats,
        "train": _train,
        "predict": _predict,
        "pick": _pick,
        "evaluate": _evaluate,
        "report": _report,
    }
    failures: list[tuple[str, str]] = []
    evaluation: Evaluation | None = None
    for stage in context.stages:
        progress.record("stage", stage=stage)
        try:
            evaluation = steps[stage](context) or evaluation
        except SomeFailedError as error:
            # the tomograms that failed are left out of what follows, and reported again at the end
            failures += [(name, f"{stage}: {message}") for name, message in error.failures]
            context = replace(context, run=context.run.without({name for name, _ in error.failures}))
    progress.record("end", failures=len(failures))
    if failures:
        raise SomeFailedError(failures, len(failures) + len(context.run.tomograms))
    return evaluation


def check_stages(stages: Sequence[str]) -> list[str]:
    """Sort stages into the order of a run; none asked for means all.

    Raises
    ------
    InputError
        If one is unknown.
    """
    for stage in stages:
        if stage not in STAGES:
            raise InputError(f"--stage must be one of {', '.join(STAGES)}, found '{stage}'")
    return [stage for stage in STAGES if stage in stages] or list(STAGES)


def _convert(context: RunContext) -> None:
    run = context.run
    files = {name: one.path for name, one in run.tomograms.items() if one.is_source}
    if files:
        convert_many(
            files,
            run.project.tomograms,
            ConvertSettings(voxel_size=run.voxel_size),
            resources=run.resources,
            overwrite=context.overwrite,
            progress=context.progress,
        )


def _stats(context: RunContext) -> None:
    ours = {name: one.store for name, one in context.run.tomograms.items() if one.is_source}
    if ours:
        stats_many(ours, out=None, resources=context.run.resources, progress=context.progress)


def _train(context: RunContext) -> None:
    run = context.run
    for purpose, points in clicks_of(run).purposes.items():
        if lost := [name for name in points.tomograms() if name not in run.tomograms]:
            raise InputError(
                f"labels.{purpose} has clicks in '{lost[0]}', which failed before; mend it, or take its clicks out of the table"
            )
    train_where_asked(run, run.project.model, overwrite=context.overwrite, progress=context.progress)
    # record the labels that were used, in our own format; only now do all stores exist, which the voxel spacing is read from
    for purpose, points in clicks_of(run).purposes.items():
        stores = [run.tomograms[name].store for name in points.tomograms()]
        conversion = conversion_from(stores, run.voxel_size)
        write_table(run.project.labels / f"{purpose}.csv", points, format_name="csv", conversion=conversion)


def _predict(context: RunContext) -> None:
    """Score the tomograms, and pick each as soon as its score map is complete, if picking is asked for.

    On a cluster one thread of this process picks while the workers score.  The stage `pick` then picks what is left, on all workers, and
    reports what can't be picked.
    """
    tasks = {task.name: task for task in pick_tasks(context.run, context.progress)} if "pick" in context.stages else {}
    with ThreadPoolExecutor(1) as beside:

        def pick_beside(task: PickTask, progress: Progress) -> None:
            if not isinstance(guarded_disk(lambda t: pick_one(t, progress), task), TomostreamError):
                context.picked.add(task.name)
                context.progress.record("done", stage="pick", tomogram=task.name)

        def when_done(name: str) -> None:
            if name in tasks:
                if context.run.resources.is_distributed:
                    beside.submit(pick_beside, tasks[name], Progress())
                else:
                    pick_beside(tasks[name], context.progress)

        _score(context, when_done)
        beside.shutdown(cancel_futures=True)  # the stage `pick` does those that have not begun


def _score(context: RunContext, when_done: Callable[[str], None]) -> None:
    run = context.run
    predict_many(
        run.stores,
        model=run.project.model,
        out=run.project.scores,
        settings=predict_settings(run),
        resources=run.resources,
        overwrite=context.overwrite,
        progress=context.progress,
        when_done=when_done,
    )


def _pick(context: RunContext) -> None:
    tasks = [replace(task, is_known=task.name in context.picked) for task in pick_tasks(context.run, context.progress)]
    for_each(tasks, pick_one, resources=context.run.resources, progress=context.progress)
    tell_fewer_than_clicked(context.run, context.progress)


def _evaluate(context: RunContext) -> Evaluation | None:
    run = context.run
    if run.truth is None:
        return None
    conversion = conversion_from(list(run.stores.values()), run.voxel_size)
    picks, names = read_scored(run.project.picks, conversion)
    known = inside(run, truth_of(run.truth.particles, names, f"truth {run.truth.where}"), conversion)
    there = known.positives().species_names()
    species = [name for name in run.truth.species if name in there or not there]
    for name in (one for one in run.truth.species if one not in species):
        context.progress.warn(f"{name}: none of the truth is in what was picked; it is not evaluated")
    settings = EvaluateSettings(tolerance=run.tolerance, species=species, matching=run.matching)
    evaluation = evaluate_particles(picks, known, settings, names=names, conversion=conversion)
    evaluation = replace(evaluation, without_species=tuple(name for name in run.species_names if name not in species))
    write_evaluation(run.project.evaluation, evaluation)
    return evaluation


def _report(context: RunContext) -> None:
    from tomostream.pipeline.report_page import write_report

    project = context.run.project
    for problem in write_report(project.folder, project.report):
        context.progress.warn(problem)
    context.progress.say(f"report: {project.report}")
