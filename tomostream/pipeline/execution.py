"""`run`: the whole path over a data set, from one configuration; every stage can be resumed, so the whole can.

    convert ─ stats ─ train ─ predict ─ pick ─ evaluate ─ report

1. Resolve the configuration and write it into the project folder.
2. Run the stages in order (or the one that is asked for); each skips what is done.
3. `plan_run` says what would be done, with projected memory and disk, and does nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tomostream.cluster import ClusterSettings
from tomostream.config import Configuration, Species
from tomostream.errors import InputError, SomeFailedError, TomostreamError
from tomostream.evaluation import Evaluation
from tomostream.formats.registry import Conversion, read_table, write_table
from tomostream.pipeline.dry_run import check_memory
from tomostream.progress import Progress
from tomostream.project import RUN_LOCK, Project, input_paths, is_mrc, store_path
from tomostream.remote.places import Place, RemotePath
from tomostream.stages.conversion.stage import ConvertSettings, convert_many, stats_many
from tomostream.stages.evaluation.stage import evaluate_files, write_evaluation
from tomostream.stages.picks.expected_count import check_count_is_knowable, expected_number
from tomostream.stages.picks.stage import PickSettings, PickTask, pick_one
from tomostream.stages.prediction.stage import PredictSettings, predict_many
from tomostream.stages.shared.batch import for_each, guarded_disk
from tomostream.stages.shared.clicks import read_points
from tomostream.stages.tables.stage import conversion_from
from tomostream.stages.training.inputs import check_positions, read_inputs
from tomostream.stages.training.placement import train_where_asked
from tomostream.store.locks import exclusive
from tomostream.strategies.matched_filter.training import strategy_fingerprint
from tomostream.units import parse_bytes, parse_shape

STAGES = ("convert", "stats", "train", "predict", "pick", "evaluate", "report")


@dataclass(frozen=True, slots=True)
class RunContext:
    """What the stages of one run share."""

    configuration: Configuration
    project: Project
    paths: dict[str, str]  # the inputs by tomogram's name
    progress: Progress
    overwrite: bool
    stages: tuple[str, ...]

    @property
    def stores(self) -> dict[str, str]:
        """The tomograms' stores by name."""
        return {name: store_path(self.configuration, name, path) for name, path in self.paths.items()}

    @property
    def cluster(self) -> ClusterSettings:
        """Where tasks run."""
        return ClusterSettings.configured(self.configuration.cluster, self.configuration.memory_bytes)

    def score_map(self, species: Species, name: str) -> Place:
        """Where the score map of a species and tomogram is."""
        folder = self.project.scores if len(self.configuration.species) == 1 else self.project.scores / species.name
        return folder / f"{name}.ome.zarr"


def run_project(configuration: Configuration, *, stages: Sequence[str], overwrite: bool, progress: Progress) -> Evaluation | None:
    """Run stages of the whole path; returns the evaluation, where there is truth.

    Raises
    ------
    TomostreamError
        Of the first stage that can't go on; `SomeFailedError` at the end if some tomograms failed and the rest are done.
    """
    context = _context(configuration, overwrite, progress, tuple(stages or STAGES))
    if {"train", "pick"} <= set(context.stages):
        check_count_is_knowable(configuration)
    if "train" in context.stages:
        # whether densities are there, and clicks fit the tomograms, is told before these are converted
        strategy_fingerprint(configuration)
        check_positions(configuration, read_inputs(configuration))
    check_memory(configuration, context.stages)
    context.project.create()
    with _held(context.project):
        return _run_stages(context)


def _held(project: Project) -> AbstractContextManager[None]:
    """Hold the project: a second run on it would undo what the first one does.  On an object store the results' leases do that."""
    if isinstance(project.folder, RemotePath):
        return contextlib.nullcontext()
    return exclusive(project.folder / RUN_LOCK, f"project {project.folder}")


def _run_stages(context: RunContext) -> Evaluation | None:
    context.configuration.write(context.project.resolved)
    context.progress.record("run", pid=os.getpid(), host=socket.gethostname(), stages=list(context.stages), tomograms=len(context.paths))
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
        context.progress.record("stage", stage=stage)
        try:
            evaluation = steps[stage](context) or evaluation
        except SomeFailedError as error:
            # the tomograms that failed are left out of what follows, and reported again at the end
            failures += [(name, f"{stage}: {message}") for name, message in error.failures]
            for name, _ in error.failures:
                context.paths.pop(name, None)
    context.progress.record("end", failures=len(failures))
    if failures:
        raise SomeFailedError(failures, len(failures) + len(context.paths))
    return evaluation


def _context(configuration: Configuration, overwrite: bool, progress: Progress, stages: tuple[str, ...]) -> RunContext:
    return RunContext(configuration, Project(configuration.project), input_paths(configuration.tomograms), progress, overwrite, stages)


def check_stages(stages: Sequence[str]) -> list[str]:
    """Put the stages asked for in order.

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
    files = [path for path in context.paths.values() if is_mrc(path)]
    if files:
        settings = ConvertSettings(voxel_size=context.configuration.voxel_size)
        memory = context.configuration.memory_bytes
        convert_many(
            files,
            context.project.tomograms,
            settings,
            memory=memory,
            overwrite=context.overwrite,
            progress=context.progress,
            cluster=context.cluster,
        )


def _stats(context: RunContext) -> None:
    cluster = context.cluster
    ours = [store for name, store in context.stores.items() if is_mrc(context.paths[name])]
    if ours:
        stats_many(ours, out=None, memory=cluster.memory, workers=cluster.workers, progress=context.progress, cluster=cluster)


def _train(context: RunContext) -> None:
    configuration, project = context.configuration, context.project
    train_where_asked(configuration, out=None, overwrite=context.overwrite, progress=context.progress)
    # what served as labels, in our own form; the stores that tell the voxel spacing are there now
    species, places = [s.name for s in configuration.species], context.stores
    for purpose, tables in (("train", configuration.labels.train), ("validate", configuration.labels.validate_)):
        if tables:
            points = read_points(tables, species, list(context.paths), f"labels.{purpose}")
            stores = [places[name] for name in points.tomograms()]
            write_table(
                project.labels / f"{purpose}.csv", points, format_name="csv", conversion=conversion_from(stores, configuration.voxel_size)
            )


def _predict(context: RunContext) -> None:
    """Score the tomograms; the picks of each appear as soon as its scores are whole, if picking is asked for.

    On a cluster one thread of this process picks beside the workers; what it can't pick, the stage `pick` will report.
    """
    tasks = {task.name: task for task in _pick_tasks(context)} if "pick" in context.stages else {}
    with ThreadPoolExecutor(1) as beside:

        def pick_beside(task: PickTask, progress: Progress) -> None:
            if not isinstance(guarded_disk(lambda t: pick_one(t, progress), task), TomostreamError):
                context.progress.record("done", stage="pick", tomogram=task.name)

        def when_done(name: str) -> None:
            if name in tasks:
                if context.cluster.is_distributed:
                    beside.submit(pick_beside, tasks[name], Progress())
                else:
                    pick_beside(tasks[name], context.progress)

        _score(context, when_done)


def _score(context: RunContext, when_done: Callable[[str], None]) -> None:
    given = context.configuration.predict
    predict_many(
        list(context.stores.values()),
        model=context.project.model,
        out=context.project.scores,
        settings=PredictSettings(
            precision=given.precision,
            score_dtype=given.score_dtype,
            logits=given.logits,
            block_size=parse_shape(given.block_size) if given.block_size else None,
            device=given.device,
            mixed_devices=given.mixed_devices,
            gpu_memory=parse_bytes(context.configuration.gpu_memory) if context.configuration.gpu_memory else None,
        ),
        cluster=context.cluster,
        overwrite=context.overwrite,
        progress=context.progress,
        when_done=when_done,
    )


def _pick(context: RunContext) -> None:
    for_each(_pick_tasks(context), pick_one, cluster=context.cluster, progress=context.progress)


def _pick_tasks(context: RunContext) -> list[PickTask]:
    truth = _truth(context)  # once: with many tomograms it is a large table
    return [_pick_task(context, name, truth) for name in context.paths]


def _pick_task(context: RunContext, name: str, truth: dict[str, Counter[str]] | None) -> PickTask:
    cluster = context.cluster
    maps = [(str(context.score_map(s, name)), _pick_settings(context, s, name, truth)) for s in context.configuration.species]
    wanted = tuple((path, settings) for path, settings in maps if settings is not None)
    return PickTask(name, wanted, context.project.picks, cluster.memory, 1 if cluster.is_distributed else cluster.workers)


def _pick_settings(context: RunContext, species: Species, name: str, truth: dict[str, Counter[str]] | None) -> PickSettings | None:
    """Return how to pick one species in one tomogram; None where its count is zero."""
    given = context.configuration.pick
    count = _count(context, species, name, truth)
    expected = None if count is not None else _expected(context, species, name)
    if 0 in (count, expected):
        return None
    return PickSettings(
        radius=species.radius,
        count=count,
        expected=expected,
        threshold=given.threshold,
        species=species.name,
        smooth=given.smooth,
        border=given.border,
        method=given.method,
    )


def _truth(context: RunContext) -> dict[str, Counter[str]] | None:
    """The number of true particles by tomogram and species, where that is to be the number of picks."""
    configuration = context.configuration
    if configuration.pick.count != "truth" or configuration.truth is None:
        return None
    names = _only(list(context.paths)), _only([s.name for s in configuration.species])
    truth = read_table(configuration.truth, conversion=Conversion(tomogram=names[0], species=names[1]))
    counts: dict[str, Counter[str]] = {}
    for tomogram, species in zip(truth.tomogram.tolist(), truth.species.tolist(), strict=True):
        counts.setdefault(tomogram, Counter())[species] += 1
    return counts


def _count(context: RunContext, species: Species, name: str, truth: dict[str, Counter[str]] | None) -> int | None:
    """The number of picks: as configured; `truth`: of the tomogram's true particles; `auto`: None, the scores choose."""
    given = context.configuration.pick.count
    if isinstance(given, int):
        return given
    if truth is not None:
        if name in truth:
            return truth[name][species.name]
        context.progress.warn(f"{name}: the table of truth has no row for it; the scores choose the count")
    return None


def _expected(context: RunContext, species: Species, name: str) -> int | None:
    """The number of particles that the user expects, where the scores are to choose the count; other tomograms' mean where it is not given."""
    given = context.configuration.pick
    if isinstance(given.count, int) or (given.count is None and given.threshold is not None):
        return None
    expected = expected_number(context.configuration, context.project, species, name)
    if expected is None and given.count != "truth":
        raise InputError(f"how many {species.name} in '{name}'? give pick.count, pick.threshold, or species.expected")
    return expected


def _only(names: Sequence[str]) -> str | None:
    """The only name, if there is one: rows without name are its."""
    return names[0] if len(names) == 1 else None


def _evaluate(context: RunContext) -> Evaluation | None:
    configuration = context.configuration
    if configuration.truth is None:
        return None
    evaluation = evaluate_files(
        context.project.picks,
        configuration.truth,
        tolerance=configuration.tolerance,
        species=[s.name for s in configuration.species],
        matching=configuration.matching,
        beta=1.0,
        conversion=conversion_from(list(context.stores.values()), configuration.voxel_size),
    )
    write_evaluation(context.project.evaluation, evaluation)
    return evaluation


def _report(context: RunContext) -> None:
    from tomostream.pipeline.report_page import write_report

    write_report(context.project.folder, context.project.report)
    context.progress.say(f"report: {context.project.report}")
