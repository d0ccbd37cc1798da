"""Plan a run without doing it: stages and tomograms, what is done, the projected peak memory, and the disk that results take.

Nothing is written.  Each step is planned by its stage's own planner, so a memory budget that is too small is refused with the same
error as in the run.  Before there is a model, prediction is planned with an untrained one of the same shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES, libraries_bytes, remote_bytes
from tomostream.config import Configuration
from tomostream.errors import ExistsError, TomostreamError
from tomostream.picking.planning import plan_blocks
from tomostream.pipeline.disk_space import check_disk
from tomostream.pipeline.inputs import check_inputs, uses_truth, without_unreadable
from tomostream.pipeline.pick_tasks import pick_tasks
from tomostream.pipeline.stage_settings import predict_settings
from tomostream.progress import Progress
from tomostream.remote.places import RemotePath, place
from tomostream.stages.picks.stage import are_picks_made
from tomostream.stages.prediction.candidates import MOST_SHARE
from tomostream.stages.prediction.network_grid import map_bytes, plan_on_grid
from tomostream.stages.prediction.standing import standing_scores
from tomostream.stages.shared.resolved_run import Head, ResolvedRun, RunTomogram, resolve
from tomostream.stages.shared.species_runs import species_runs
from tomostream.stages.training.click_check import check_clicks
from tomostream.stages.training.click_doubts import tell_doubts
from tomostream.stages.training.model_state import is_begun, refusal
from tomostream.stages.training.planned import planned_trainings
from tomostream.stages.voxel_statistics.stage import STATS_BLOCK_BYTES
from tomostream.store.pyramid import level_shape
from tomostream.store.zarr_opening import is_url
from tomostream.strategies.model_folder import has_model
from tomostream.strategies.training_memory import training_buffer, training_bytes
from tomostream.tomogram import open_tomogram
from tomostream.units import format_bytes

_OTHER = "other settings"


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of one tomogram, or of all of them (`-`)."""

    stage: str
    tomogram: str
    state: str  # done, to do; other settings: a model or score map is there that the run will not replace without --overwrite
    memory_bytes: int | None  # projected peak of a process
    disk_bytes: int | None  # of the result
    work: str

    def row(self) -> list[str]:
        """The step as cells of a table."""
        sizes = ["" if n is None else format_bytes(n) for n in (self.memory_bytes, self.disk_bytes)]
        return [self.stage, self.tomogram, self.state, *sizes, self.work]


def plan_run(
    configuration: Configuration, stages: Sequence[str], progress: Progress | None = None, *, overwrite: bool = False
) -> list[Step]:
    """Plan the stages of a configuration, and give the warnings that the run would give; with `overwrite`, what a run replaces is to do.

    Raises
    ------
    InputError
        If an input is missing or broken.
    BudgetError
        If a stage would not fit the memory, or its results the disk.
    """
    progress = progress or Progress()
    run = resolve(configuration, with_clicks="train" in stages, with_truth=uses_truth(configuration, stages))
    for doubt in run.truth.doubts if run.truth is not None else ():
        progress.warn(doubt)
    check_inputs(run, stages)
    run = without_unreadable(run, progress)
    steps: list[Step] = []
    for stage in stages:
        if stage == "train":
            tell_doubts(run, progress)
            steps += _trainings(run, progress, overwrite=overwrite)
        elif stage == "report":
            steps.append(Step(stage, "-", "to do", LIBRARIES_BYTES * 2, None, "one page"))
        elif stage == "evaluate":
            work = "no truth is given" if run.truth is None else f"tolerance {run.tolerance}"
            steps.append(Step(stage, "-", "to do" if run.truth else "nothing", LIBRARIES_BYTES * 2, None, work))
        elif stage == "predict":
            will_train = any(step.stage == "train" and step.state != "done" for step in steps)
            predictions = _predictions(run, progress, overwrite=overwrite)
            steps += [replace(step, state="to do") if will_train and step.state == "done" else step for step in predictions]
        elif stage == "pick":
            steps += _picks(run, steps)
        else:
            steps += [_step(run, stage, one) for one in run.tomograms.values()]
    check_disk(run.project, stores=_disk_of(steps, "convert"), scores=_disk_of(steps, "predict"))
    return steps


def refuse_other_settings(steps: Sequence[Step]) -> None:
    """Refuse a plan as the run will: once it is seen, with the stages that would stop.

    Raises
    ------
    ExistsError
        If a model or score map is there that the run will not replace.
    """
    stages = dict.fromkeys(step.stage for step in steps if step.state == _OTHER)
    if stages:
        raise ExistsError(
            f"the run would stop at {' and '.join(stages)}, where results of other settings are (the warnings say which); "
            "use another folder, or --overwrite to replace them"
        )


def _disk_of(steps: Sequence[Step], stage: str) -> int:
    """The bytes that the steps of a stage still have to write."""
    return sum(step.disk_bytes or 0 for step in steps if step.stage == stage and step.state == "to do")


class _Warnings(Progress):
    """Passes on warnings only: the rest is in the plan."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def warn(self, text: str) -> None:
        """Pass it on."""
        self._progress.warn(text)


def check_resources(run: ResolvedRun, stages: Sequence[str]) -> None:
    """Check, before any work, that each stage still to be done fits the memory, and its results the disk.

    Tomograms whose head can't be read are passed over: the stages report them.

    Raises
    ------
    BudgetError
        If a stage or its results would not fit.
    """
    sound = [one for one in run.tomograms.values() if isinstance(one.head, Head)]
    if "train" in stages and sound and not is_trained(run):
        for own in species_runs(run):
            _train(own)
    steps = [_step(run, "convert", one) for one in sound if "convert" in stages]
    for stage in ("predict", "pick"):
        steps += [_step(run, stage, one) for one in (sound if stage in stages else ()) if not _is_there(run, stage, one)]
    check_disk(run.project, stores=_disk_of(steps, "convert"), scores=_disk_of(steps, "predict"))


def is_trained(run: ResolvedRun) -> bool:
    """Whether the project has a model."""
    return has_model(run.project.model)


def _is_there(run: ResolvedRun, stage: str, one: RunTomogram) -> bool:
    """Whether the result of stage `predict` or `pick` exists for a tomogram."""
    if stage == "pick":
        return (run.project.picks / f"{one.name}.csv").exists()
    return all(run.score_map(species, one.name).exists() for species in run.species)


def _head(one: RunTomogram) -> Head:
    if not isinstance(one.head, Head):
        raise TypeError(f"the head of tomogram '{one.name}' was not read, or is broken")
    return one.head


def _step(run: ResolvedRun, stage: str, one: RunTomogram) -> Step:
    head = _head(one)
    text = " x ".join(map(str, head.shape))
    if stage == "convert":
        return Step(stage, one.name, _state(one.is_converted), head.convert_bytes, head.store_bytes, f"{text} voxels")
    if stage == "stats":
        needed = 2 * LIBRARIES_BYTES + run.resources.workers * 4 * STATS_BLOCK_BYTES
        return Step(stage, one.name, _state(_has_statistics(one)), needed, None, "mean and standard deviation")
    return _predict(run, one) if stage == "predict" else _pick(run, one)


def _has_statistics(one: RunTomogram) -> bool:
    if not (one.is_converted and place(one.store).exists()):
        return False
    known = open_tomogram(one.store).normalisation
    return known is not None and known.robust is not None


def _predictions(run: ResolvedRun, progress: Progress, *, overwrite: bool) -> list[Step]:
    """Return the steps of prediction, each with the state of its score maps; warn of those that the run will refuse to replace."""
    steps = [_step(run, "predict", one) for one in run.tomograms.values()]
    known = {step.tomogram for step in steps if step.state == "done" and place(run.stores[step.tomogram]).exists()}
    if not known or not is_trained(run):
        return steps
    stores = {name: run.stores[name] for name in sorted(known)}
    try:
        found = standing_scores(
            stores, model=run.project.model, out=run.project.scores, settings=predict_settings(run), resources=run.resources
        )
    except TomostreamError as error:
        progress.warn(str(error))
        return steps
    refused = {name: str(state) for name, state in found.items() if isinstance(state, ExistsError)}
    for told in () if overwrite else refused.values():
        progress.warn(told)
    other = _state(is_done=False) if overwrite else _OTHER
    states = {name: other if isinstance(state, ExistsError) else _state(state) for name, state in found.items()}
    return [replace(step, state=states.get(step.tomogram, step.state)) for step in steps]


def _picks(run: ResolvedRun, before: Sequence[Step]) -> list[Step]:
    """Return the steps of picking; picks are made again if their score maps are, or if the settings differ."""
    steps = [_step(run, "pick", one) for one in run.tomograms.values()]
    scored = {step.tomogram for step in before if step.stage == "predict" and step.state == "to do"}
    there = {step.tomogram for step in steps if step.state == "done" and _is_there(run, "predict", run.tomograms[step.tomogram])}
    try:
        made = {task.name: are_picks_made(task) for task in pick_tasks(run, Progress()) if task.name in there} if there else {}
    except TomostreamError:  # a score map is damaged, or how many are wanted can't be known yet: the stage will tell
        made = {}
    made |= dict.fromkeys(scored, False)
    return [replace(step, state=_state(step.state == "done" and made.get(step.tomogram, True))) for step in steps]


def _predict(run: ResolvedRun, one: RunTomogram) -> Step:
    steps = [_predict_with(own, one) for own in species_runs(run)]
    return replace(
        steps[0],
        state=_state(_is_there(run, "predict", one)),
        memory_bytes=max(step.memory_bytes or 0 for step in steps),
        disk_bytes=sum(step.disk_bytes or 0 for step in steps),
        work="; ".join(dict.fromkeys(step.work for step in steps)),
    )


def _predict_with(run: ResolvedRun, one: RunTomogram) -> Step:
    """Plan the prediction of one model: of all species of a run, or of one of them."""
    head = _head(one)
    model = run.strategy.untrained(run.learning, head.spacing)
    settings = predict_settings(run)
    settings.check()
    memory = run.learning.memory - remote_bytes(is_url(one.store) or isinstance(run.project.folder, RemotePath))
    plan = plan_on_grid(model, head.shape, settings, memory=memory, name=one.name)
    redundancy = plan.redundancy_of(model.scorer(device="cpu", precision=run.predict.precision, threads=None))
    disk = map_bytes(plan, settings) * len(run.species)
    if run.predict.keep == "candidates":
        disk = math.ceil(MOST_SHARE * disk)
    work = f"{len(plan.shards)} shards of {' x '.join(map(str, plan.shard))}, level {plan.level}, {redundancy:.2f} x the voxels computed"
    return Step("predict", one.name, "", plan.block_bytes, disk, work)


def _pick(run: ResolvedRun, one: RunTomogram) -> Step:
    head, memory = _head(one), run.learning.memory
    plan = plan_blocks(
        head.shape,
        block=None,
        halo=None,
        radius=min(s.radius.in_voxels(head.spacing) for s in run.species),
        smooth=run.pick.smooth.in_voxels(head.spacing) if run.pick.smooth else 0.0,
        memory=memory,
        libraries=libraries_bytes(),
        workers=run.resources.workers,
    )
    where = "" if run.region.is_everywhere else ", inside the region"
    return Step("pick", one.name, _state(_is_there(run, "pick", one)), memory, None, f"blocks of {' x '.join(map(str, plan.block))}{where}")


def _trainings(run: ResolvedRun, progress: Progress, *, overwrite: bool) -> list[Step]:
    """The training, or that of each species: what will be done with its model, and why; why the run will refuse to replace it is told."""
    model, processes = run.project.model, run.resources.train_processes
    told = refusal(run, model, processes=processes)
    if told is not None and not overwrite:
        progress.warn(told)
    runs = species_runs(run)
    steps: list[Step] = []
    for own in runs:
        found = check_clicks(own, _Warnings(progress))
        step = _train(own)
        findings = "".join(f"; {finding}" + (": clearly off" if finding.is_radius_off else "") for finding in found)
        steps.append(replace(step, work=step.work + findings))
    to_do = _state(is_done=False) if told is None or overwrite else _OTHER
    if len(runs) == 1:
        is_kept = told is None and is_trained(run) and not is_begun(run, model, processes=processes)
        return [replace(steps[0], state="done" if is_kept else to_do)]
    planned = planned_trainings(run, model, processes=processes)
    steps += [Step("train", "-", "", None, None, "") for _ in planned[len(runs) :]]
    return [
        replace(step, state="done" if one.is_kept else to_do, work=f"{one.species}: {'; '.join(filter(None, [one.words, step.work]))}")
        for one, step in zip(planned, steps, strict=True)
    ]


def _train(run: ResolvedRun) -> Step:
    heads = [one.head for one in run.tomograms.values() if isinstance(one.head, Head)]
    level = run.strategy.reading_level(run.species, heads[0].spacing, run.learning.network.level)
    work = run.strategy.describe(run.learning, level)
    if run.learning.minutes is not None:
        work += f", at most {run.learning.minutes:g} minutes" + ("" if run.learning.share == 1 else f" of {run.learning.train.minutes:g}")
    needed, buffer = training_bytes(run.strategy, run.learning), training_buffer(run.strategy, run.learning)
    if run.strategy.step_bytes(run.learning) is None:
        needed = max(needed, 2 * LIBRARIES_BYTES + TORCH_BYTES)
    else:
        needed += min(buffer, 4 * sum(math.prod(level_shape(head.shape, level)) for head in heads))
    return Step("train", "-", _state(is_trained(run)), needed, None, work)


def _state(is_done: bool) -> str:
    return "done" if is_done else "to do"
