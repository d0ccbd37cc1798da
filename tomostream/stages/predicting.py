"""`predict`: score maps of many tomograms, shard by shard, resumable.

1. Open the model and the tomogram at the model's level; measure it if that was not done; compare voxel spacings.
2. Plan: the blocks of least redundant compute within the memory budget; one task a shard, so no shard has two writers.
3. Run the tasks that the ledger lacks, here or on the cluster; each reads its own halo and writes its own shards.
4. When all are done the store is finished: until then it can't be mistaken for a whole one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tomostream import defaults
from tomostream.budget import remote_bytes
from tomostream.cluster import ClusterSettings, open_pool
from tomostream.config import pick_method
from tomostream.errors import InputError
from tomostream.geometry import Box, Triple
from tomostream.normalisation import Normalisation
from tomostream.progress import Progress
from tomostream.remote.copies import local_folder
from tomostream.remote.places import Place, RemotePath, place
from tomostream.stages.converting import measure
from tomostream.stages.digest import file_sha256, refuse_other_kind, tomogram_fingerprint
from tomostream.stages.many import distinct_names, for_each
from tomostream.stages.restriction import Restriction
from tomostream.store.omezarr import StoreSpec, StoreWriter, store_state, write_shard
from tomostream.store.opening import is_url
from tomostream.store.states import refuse_other_settings
from tomostream.tomogram import Tomogram, open_tomogram

if TYPE_CHECKING:
    from pathlib import Path

    from tomostream.inference.plan import PredictionPlan
    from tomostream.inference.regions import AnyScorer
    from tomostream.strategies.loading import AnyModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictSettings:
    """How scores are computed and stored."""

    precision: str = defaults.PREDICT_PRECISION
    score_dtype: str = defaults.SCORE_DTYPE
    logits: bool = False
    block_size: Triple | None = None  # core, voxels of the full resolution
    device: str = defaults.DEVICE
    gpu_memory: int | None = None  # bytes
    box: Box | None = None  # voxels of the full resolution; scores elsewhere are missing
    mask: str | None = None  # store on the tomogram's grid; scores where it is zero are missing

    def check(self) -> None:
        """Refuse combinations that would lose information silently.

        Raises
        ------
        InputError
            For logits in int8.
        """
        if self.logits and self.score_dtype == "int8":
            raise InputError("--logits with --score-dtype int8: int8 holds probabilities only; use float16 or float32")


@dataclass(frozen=True, slots=True)
class PredictTask:
    """The prediction of one tomogram."""

    name: str
    path: str
    model: Place
    out: Place
    settings: PredictSettings
    cluster: ClusterSettings
    overwrite: bool


@dataclass(frozen=True, slots=True)
class ShardTask:
    """All that a worker needs to score one shard: small, and the same bytes whoever runs it, however often."""

    path: str
    normalisation: Normalisation
    model: str
    plan: PredictionPlan
    index: Triple
    stores: tuple[tuple[int, str], ...]  # the unfinished stores: number of the species among the network's outputs, partial store
    species: int  # of the network
    settings: PredictSettings
    threads: int


def local_model(folder: Place) -> Path:
    """Give a model folder as a local one; a remote one is fetched once a process."""
    return local_folder(folder, ("model.safetensors", "model.json"))


@functools.lru_cache(maxsize=2)
def _scorer(model: str, device: str, precision: str, threads: int, gpu_memory: int | None) -> tuple[AnyModel, AnyScorer]:
    """Load the model once a process."""
    from tomostream.strategies.loading import load_model, open_scorer

    loaded = load_model(local_model(place(model)))
    return loaded, open_scorer(loaded, device=device, precision=precision, threads=threads, gpu_memory=gpu_memory)


def predict_shard(task: ShardTask) -> list[str]:
    """Score one shard and write it to every species' store; returns what there is to say (GPU memory that was short)."""
    from tomostream.inference.regions import encode_scores, score_region

    model, scorer = _scorer(task.model, task.settings.device, task.settings.precision, task.threads, task.settings.gpu_memory)
    tomogram = open_tomogram(task.path).at_level(model.settings.level).with_normalisation(task.normalisation)
    core = task.plan.shards.core(task.index)
    notes: list[str] = []
    restriction = Restriction(task.settings.box, task.settings.mask)
    if restriction.is_empty_in(core):
        scores = np.full((task.species, *core.shape), np.nan, dtype=np.float32)
    else:
        scores = score_region(tomogram.read_standardised, task.plan, core, scorer, as_logits=task.settings.logits, note=notes.append)
        restriction.apply(scores, core)
    for number, store in task.stores:
        write_shard(place(store), task.index, encode_scores(scores[number], task.settings.score_dtype))
    return notes


def predict_one(task: PredictTask, progress: Progress) -> list[Place]:
    """Score one tomogram; returns the finished stores, one a species."""
    from tomostream.inference.regions import encoding_attributes
    from tomostream.strategies.loading import load_model, plan_model, strategy_of

    settings = task.settings
    model = load_model(local_model(task.model))
    source = open_tomogram(task.path)
    _check_spacing(model, source, progress)
    Restriction(settings.box, settings.mask).check(source.shape, task.name)
    tomogram = source.at_level(model.settings.level)
    threads = task.cluster.threads or max(1, (os.cpu_count() or 1) // (task.cluster.workers if task.cluster.is_distributed else 1))
    plan = plan_model(
        model,
        source.shape,
        precision=settings.precision,
        memory=task.cluster.memory - remote_bytes(is_url(task.path) or isinstance(task.out, RemotePath)),
        block_size=settings.block_size,
        name=task.name,
    )
    fingerprint = _fingerprint(task, model, source, plan, threads)
    paths = [_store(task.out, model, species, task.name) for species in model.settings.species]
    for path in paths:
        refuse_other_kind(path, "scores")
    states = [store_state(path, fingerprint) for path in paths]
    if all(state == "done" for state in states):
        progress.say(f"{task.name}: scores are already made with these settings")
        return paths
    if not task.overwrite:
        for path in paths:
            refuse_other_settings(path, fingerprint)
    normalisation = measure(tomogram, memory=task.cluster.memory, workers=max(1, threads))
    if normalisation.is_constant:
        raise InputError(f"tomogram '{task.name}' is constant (mean {normalisation.mean:g}): there is nothing to find in it")

    with contextlib.ExitStack() as stack:
        writers = {
            number: stack.enter_context(
                StoreWriter.create_or_resume(
                    path,
                    StoreSpec(
                        name=task.name,
                        shape=source.shape,
                        dtype=np.dtype(settings.score_dtype),
                        spacing=source.spacing,
                        chunk=plan.chunk,
                        shard=plan.shard,
                        codec=defaults.CODEC,
                        levels=1,
                        attributes={
                            "kind": "scores",
                            "species": species,
                            "logits": settings.logits,
                            "tomogram": task.name,
                            "strategy": strategy_of(model),
                            "pick_method": pick_method(strategy_of(model)),
                            **encoding_attributes(settings.score_dtype),
                        },
                    ),
                    fingerprint=fingerprint,
                    overwrite=task.overwrite,
                )
            )
            for number, (path, species, state) in enumerate(zip(paths, model.settings.species, states, strict=True))
            if state != "done"
        }
        _run(task, writers, plan, normalisation, threads, progress)
        for writer in writers.values():
            writer.finish()
    return paths


def _run(
    task: PredictTask, writers: dict[int, StoreWriter], plan: PredictionPlan, normalisation: Normalisation, threads: int, progress: Progress
) -> None:
    pending = sorted({index for writer in writers.values() for index in writer.pending()})
    stores = tuple((number, str(writer.partial)) for number, writer in writers.items())

    def tasks() -> Iterator[ShardTask]:
        for index in pending:
            yield ShardTask(task.path, normalisation, str(task.model), plan, index, stores, plan.species, task.settings, threads)

    # blocks keep all cores busy themselves: in this process one after the other
    cluster = task.cluster if task.cluster.is_distributed else ClusterSettings()
    total = len(plan.shards)
    with progress.track(f"predict {task.name}", total) as bar, open_pool(cluster, progress) as pool:
        bar.advance(total - len(pending))
        for shard, notes in pool.run(predict_shard, tasks()):
            for writer in writers.values():
                writer.mark_done(shard.index)
            for note in notes:
                progress.warn(f"{task.name}: {note}")
            bar.advance()


def _store(out: Place, model: AnyModel, species: str, name: str) -> Place:
    folder = out if len(model.settings.species) == 1 else out / species
    return folder / f"{name}.ome.zarr"


def _check_spacing(model: AnyModel, tomogram: Tomogram, progress: Progress) -> None:
    difference = abs(tomogram.spacing / model.settings.spacing - 1)
    text = f"tomogram '{tomogram.name}' has {tomogram.spacing:g} A per voxel, the model was trained at {model.settings.spacing:g} A ({100 * difference:.1f} % apart)"
    if difference > defaults.SPACING_STOP:
        raise InputError(
            f"{text}; at most {100 * defaults.SPACING_STOP:.0f} % are allowed: bin or rescale the tomogram, or train at its spacing"
        )
    if difference > defaults.SPACING_WARN:
        progress.warn(f"{text}: particles look that much larger or smaller to it, expect worse scores")


def _fingerprint(task: PredictTask, model: AnyModel, source: Tomogram, plan: PredictionPlan, threads: int) -> dict[str, Any]:
    """What decides the bytes of the scores (guarantee 3)."""
    from tomostream.inference.scorer import environment
    from tomostream.strategies.loading import strategy_of

    settings = task.settings
    values = {
        "tomogram": tomogram_fingerprint(source),
        "model": file_sha256(local_model(task.model) / "model.safetensors"),
        "level": model.settings.level,
        "precision": settings.precision,
        "score_dtype": settings.score_dtype,
        "logits": settings.logits,
        "box": str(settings.box),
        "mask": None if settings.mask is None else tomogram_fingerprint(open_tomogram(settings.mask)),
        "core": list(plan.core),
        "shard": list(plan.shard),
        "threads": threads,
        **environment(settings.device),
    }
    if strategy_of(model) != "unet":
        values["settings"] = file_sha256(local_model(task.model) / "model.json")  # the arrays alone don't decide the scores
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def predict_many(
    paths: Sequence[str],
    *,
    model: Place,
    out: Place,
    settings: PredictSettings,
    cluster: ClusterSettings,
    overwrite: bool,
    progress: Progress,
    name_from_folder: bool = False,
) -> list[list[Place]]:
    """Score tomograms; returns the stores of each, one a species.

    Raises
    ------
    TomostreamError
        See `for_each`; `BudgetError` when the smallest block does not fit the memory budget.
    """
    settings.check()
    names = distinct_names(paths, from_folder=name_from_folder)
    tasks = [PredictTask(name, path, place(model), place(out), settings, cluster, overwrite) for name, path in names.items()]
    return for_each(tasks, predict_one, progress=progress)
