"""`predict`: score maps of many tomograms, shard by shard, resumable; one pool of workers for all of them.

1. Examine every tomogram (`score_maps.py`): what can't be done is refused before any work.
2. Prepare them (`preparing.py`), on the workers if there are any: measure those that lack statistics; find the batch-norm statistics.
3. Shards of one tomogram after the other go to the workers (`shard_scoring.py`), a bounded number at a time; while the last shards of one
   are computed the next one's begin, so that workers don't wait at its end.
4. A tomogram whose last shard is done is finished at once; one that fails is reported, and the others continue.
5. Several models in one folder (`strategies.several_models`) score one after the other, each into the folder of its species.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tomostream.cluster import Pool, Resources, is_elsewhere, open_pool, task_threads
from tomostream.errors import TomostreamError
from tomostream.inference.face_noise import told
from tomostream.progress import Progress
from tomostream.remote.places import Place, place
from tomostream.stages.prediction.candidates import ReduceTask, Reduction, reduce_tomogram
from tomostream.stages.prediction.outcomes import Outcomes
from tomostream.stages.prediction.prepare_task import Prepared, PrepareTask, prepare_tomogram
from tomostream.stages.prediction.score_maps import Examined, PredictTask, ScoreMaps, examine
from tomostream.stages.prediction.shard_task import PredictSettings, ScorerLoad, ShardTask, machine_environment, predict_shard
from tomostream.stages.shared.batch import followed, guarded_disk

if TYPE_CHECKING:
    from tomostream.strategies.protocol import Model

__all__ = ["PredictSettings", "predict_many"]


def predict_many(
    tomograms: Mapping[str, str],
    *,
    model: Place,
    out: Place,
    settings: PredictSettings,
    resources: Resources,
    overwrite: bool,
    progress: Progress,
    when_done: Callable[[str], None] = lambda _: None,
) -> list[list[Place]]:
    """Score tomograms; returns the stores of each, one per species.

    `tomograms` gives the stores by name (`distinct_names`).  `when_done` is called with the name of each tomogram whose scores are complete, while
    others are still in progress.

    Raises
    ------
    TomostreamError
        See `Results.all`; `BudgetError` when the smallest block does not fit the memory budget.
    """
    from tomostream.strategies.loading import load_model
    from tomostream.strategies.model_folder import local_model
    from tomostream.strategies.several_models import files_in, parts_of

    settings.check()
    folder = local_model(place(model))
    loaded, identities = load_model(folder), [one.identity for one in files_in(folder)]
    parts = parts_of(loaded)
    outcomes = Outcomes(list(tomograms), len(parts), progress, when_done)
    if not resources.is_distributed:
        resources = replace(resources, workers=1)  # blocks keep all cores busy themselves: one after the other
    wants_gpu = _wants_gpu(settings.device, resources) if settings.device == "cuda" or loaded.uses_gpu else False
    with contextlib.ExitStack() as stack:
        # other machines may be of another kind, and have other cores: they are asked before anything is planned
        pool = stack.enter_context(open_pool(resources, progress, needs_gpu=wants_gpu)) if is_elsewhere(resources) else None
        threads = task_threads(resources) if pool is None else pool.threads
        device = "cuda" if wants_gpu or (pool is not None and pool.needs_gpu) else "cpu"
        first = ScorerLoad(str(model), device, settings.precision, threads, resources.gpu_memory)
        environment = machine_environment(device) if pool is None else next(pool.run(machine_environment, [device]))[1]
        for number, part in enumerate(parts):
            outcomes.begin(number)
            into = place(out) if len(parts) == 1 else place(out) / part.settings.species[0]
            tasks = [PredictTask(name, tomograms[name], into, settings, resources.memory, overwrite) for name in outcomes.left]
            load = replace(first, part=number)
            run = _Run(part, identities[number], load, environment, outcomes, progress, resources.is_distributed)
            to_do = [found for task in tasks if (found := run.examine(task)) is not None]
            if not to_do:
                continue
            if pool is None:
                pool = stack.enter_context(open_pool(resources, progress, needs_gpu=bool(wants_gpu)))
            with contextlib.ExitStack() as own:
                scoring = pool
                if device == "cuda" and not resources.is_distributed:
                    scoring = own.enter_context(_beside_a_gpu(resources, to_do, progress))
                own.enter_context(contextlib.closing(run))
                own.enter_context(pool.keeping(load))
                run.all(pool, scoring, to_do)
    return outcomes.all()


def _beside_a_gpu(resources: Resources, to_do: list[Examined], progress: Progress) -> contextlib.AbstractContextManager[Pool]:
    """Threads of this process, each with a shard of its own."""
    from tomostream.stages.prediction.overlap import shards_at_once

    count = shards_at_once((one.plan for one in to_do), memory=resources.memory, gpu_memory=resources.gpu_memory)
    return open_pool(replace(resources, workers=count, threads=task_threads(resources)), progress)


def _wants_gpu(device: str, resources: Resources) -> bool | None:
    """Whether workers need a GPU; None: what a running scheduler's workers offer decides."""
    if device != "auto":
        return device == "cuda"
    if resources.scheduler is not None:
        return None
    if is_elsewhere(resources):
        return resources.gpus > 0
    from tomostream.learn.precision import resolve_device

    return resolve_device(device).type == "cuda"


class _Run:
    """The tomograms in the making, by name."""

    def __init__(
        self,
        model: Model,
        identity: tuple[str, str],
        load: ScorerLoad,
        environment: tuple[tuple[str, str], ...],
        outcomes: Outcomes,
        progress: Progress,
        reduces_on_workers: bool,
    ) -> None:
        self._identity = identity
        self._reduces_on_workers = reduces_on_workers
        self._reductions: dict[str, tuple[Reduction, ...]] = {}
        self._paths: dict[str, list[Place]] = {}
        self._model, self._load, self._environment = model, load, environment
        self._outcomes, self._progress = outcomes, progress
        self._making: dict[str, ScoreMaps] = {}
        self._prepared: dict[str, Prepared] = {}

    def examine(self, task: PredictTask) -> Examined | None:
        """See what is to be done; what is done, or can't be, is noted as a result."""
        found = guarded_disk(lambda t: examine(t, self._model, self._identity, self._load, self._environment, self._progress), task)
        if isinstance(found, Examined):
            return found
        self._outcomes.note(task.name, found)
        return None

    def all(self, pool: Pool, scoring: Pool, to_do: list[Examined]) -> None:
        """Do it: prepare in the one pool, score in the other, or the same."""
        unprepared = [
            PrepareTask(
                one.task.name, one.task.path, one.task.memory, self._load, () if one.task.settings.mixed_devices else self._environment
            )
            for one in to_do
        ]
        with followed(len(to_do), self._progress, "prepare") as bar:
            for wanted, prepared in pool.outcomes(prepare_tomogram, unprepared, is_grouped=True):
                if isinstance(prepared, TomostreamError):
                    self._outcomes.note(wanted.name, prepared)
                else:
                    self._prepared[wanted.name] = prepared
                    if (streaks := told(prepared.statistics)) is not None:
                        self._progress.say(f"{wanted.name}: {streaks}")
                bar.advance(note=self._outcomes.told)
        with followed(len(to_do), self._progress) as bar:
            bar.measure(sum(math.prod(one.plan.shards.shape) for one in to_do) // max(1, len(to_do)))
            for task, outcome in scoring.outcomes(predict_shard, self._tasks(to_do), is_grouped=True):
                maps = self._making.get(task.name)
                if maps is None:
                    continue  # a shard of a tomogram that failed meanwhile
                if isinstance(outcome, TomostreamError):
                    self._end(maps, outcome)
                else:
                    maps.note(task.index, outcome)
                    if maps.is_whole:
                        self._finish(maps)
                if task.name not in self._making:
                    bar.advance(note=self._outcomes.told)

        for reduction, failure in pool.outcomes(reduce_tomogram, [ReduceTask(*one) for one in self._reductions.items()]):
            self._tell(reduction.name, failure if isinstance(failure, TomostreamError) else self._paths[reduction.name])

    def _finish(self, maps: ScoreMaps) -> None:
        """Finish a tomogram whose last shard is done; where only candidates are kept, they are found here or, later, on the workers."""
        outcome = guarded_disk(ScoreMaps.finish, maps)
        if isinstance(outcome, TomostreamError) or not maps.reductions:
            self._end(maps, outcome)
        elif self._reduces_on_workers:
            del self._making[maps.name]
            maps.close()
            self._reductions[maps.name], self._paths[maps.name] = maps.reductions, outcome
        else:
            failure = guarded_disk(reduce_tomogram, ReduceTask(maps.name, maps.reductions))
            self._end(maps, failure if isinstance(failure, TomostreamError) else outcome)

    def _tasks(self, to_do: list[Examined]) -> Iterator[ShardTask]:
        for one in to_do:
            name = one.task.name
            if name not in self._prepared:
                continue
            maps = guarded_disk(self._begin, one)
            if isinstance(maps, TomostreamError):
                self._outcomes.note(name, maps)
                continue
            self._making[name] = maps
            if maps.is_whole:  # killed before it got its name
                self._finish(maps)
            for task in maps.tasks():
                if name not in self._making:
                    break  # one of its shards failed
                yield task

    def _begin(self, one: Examined) -> ScoreMaps:
        return ScoreMaps(one, self._model, self._load, self._prepared[one.task.name], self._environment, self._progress)

    def _end(self, maps: ScoreMaps, outcome: list[Place] | TomostreamError) -> None:
        del self._making[maps.name]
        maps.close()
        self._tell(maps.name, outcome)

    def _tell(self, name: str, outcome: list[Place] | TomostreamError) -> None:
        self._outcomes.note(name, outcome, is_new=True)

    def close(self) -> None:
        """Let go of what is unfinished."""
        for maps in self._making.values():
            maps.close()
