"""What does a worker do for `predict`?  It scores one shard: reads its own halo, writes its own shard to every species' store.

The task is small and says all that is needed, so it can be done by anyone, and again; the bytes are the same.  The model is loaded
once a process (`ScorerLoad`, kept by the pool), its scorer once a tomogram.  A worker of another kind than the one that the scores began with (processor, GPU,
library versions) would write other bytes: it gives the task back, as it does when its GPU is missing.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.cluster import resident
from tomostream.errors import InputError, MachineError
from tomostream.geometry import Box, Triple
from tomostream.normalisation import Normalisation
from tomostream.remote.places import place
from tomostream.stages.prediction.candidates import thinned
from tomostream.stages.shared.region_of_interest import Restriction
from tomostream.store.omezarr import write_shard
from tomostream.strategies.model_folder import local_model
from tomostream.tomogram import Tomogram, open_tomogram
from tomostream.units import Length

if TYPE_CHECKING:
    from tomostream.inference.batch_statistics import Statistics
    from tomostream.inference.plan import PredictionPlan
    from tomostream.inference.protocol import BlockScorer
    from tomostream.strategies.protocol import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictSettings:
    """How scores are computed and stored."""

    precision: str = defaults.PREDICT_PRECISION
    score_dtype: str = defaults.SCORE_DTYPE
    logits: bool = False
    block_size: Triple | None = None  # core, voxels of the full resolution
    device: str = defaults.DEVICE
    box: Box | None = None  # voxels of the full resolution; scores elsewhere are missing
    mask: str | None = None  # store on the tomogram's grid; scores where it is zero are missing
    mixed_devices: bool = False  # machines of several kinds may share a score map; it says so then
    voxel_size: float | None = None  # angstrom, where the tomogram's store does not say it
    candidates: tuple[tuple[str, Length], ...] = ()  # radii by species: only what picking with them needs is kept; none: all is
    grid: str = defaults.SCORE_GRID  # `network`: the logits are stored at the network's level, and interpolated on reading

    def is_coarse(self, level: int) -> bool:
        """Whether the scores of a model that reads this level are stored at it."""
        return self.grid == "network" and level > 0

    def check(self) -> None:
        """Refuse combinations that would silently lose information, or that contradict each other.

        Raises
        ------
        InputError
            For logits in int8; and on the network's grid for a smaller type, candidates, or a mask.
        """
        if self.grid == "network":
            for is_asked, what, instead in (
                (
                    self.score_dtype != "float32",
                    f"score_dtype {self.score_dtype}",
                    "its logits are float32, an eighth of the voxels at level 1: half of what int8 takes",
                ),
                (bool(self.candidates), "keep: candidates", "candidates are voxels of the tomogram's grid, and take less than either"),
                (self.mask is not None, "a mask", "a mask is on the tomogram's grid; give it to `pick` instead"),
            ):
                if is_asked:
                    raise InputError(f"grid network with {what}: {instead}; leave one of them out")
        if self.logits and self.score_dtype == "int8":
            raise InputError("--logits with --score-dtype int8: int8 holds probabilities only; use float16 or float32")


class Ready:
    """A model in memory, and the scorer of the tomogram that was scored last."""

    def __init__(self, model: Model, open_for: Callable[[Model], BlockScorer]) -> None:
        self.model = model
        self._open_for = open_for
        self._last: tuple[Statistics, BlockScorer] = {}, open_for(model)
        self._lock = threading.Lock()

    def scorer(self, statistics: Statistics) -> BlockScorer:
        """The scorer of a tomogram with these statistics (`adaptive_statistics`); none: of the model as it is."""
        with self._lock:
            known, scorer = self._last
            if known.keys() != statistics.keys() or any(not np.array_equal(known[name], statistics[name]) for name in known):
                scorer = self._open_for(self.model.with_statistics(statistics))
                self._last = statistics, scorer
            return scorer


@dataclass(frozen=True, slots=True)
class ScorerLoad:
    """Loads the model and makes it ready to score, once a process."""

    model: str
    device: str
    precision: str
    threads: int
    gpu_memory: int | None
    part: int = 0  # of several models in the folder: which one

    def __call__(self) -> Ready:
        """Load."""
        from tomostream.strategies.loading import load_model
        from tomostream.strategies.several_models import parts_of

        loaded = parts_of(load_model(local_model(place(self.model))))[self.part]

        def open_for(model: Model) -> BlockScorer:
            return model.scorer(device=self.device, precision=self.precision, threads=self.threads, gpu_memory=self.gpu_memory)

        try:
            return Ready(loaded, open_for)
        except InputError as error:
            if self.device == "cpu":
                raise
            raise MachineError(f"{error} (on {socket.gethostname()})") from None  # the GPU; another machine may have one


@dataclass(frozen=True, slots=True)
class ShardTask:
    """All that a worker needs to score one shard."""

    name: str  # of the tomogram
    path: str
    normalisation: Normalisation
    statistics: Statistics  # of `adaptive_statistics`; none: the model as it is
    load: ScorerLoad
    plan: PredictionPlan
    index: Triple
    stores: tuple[tuple[int, str], ...]  # the unfinished stores: number of the species among the network's outputs, partial store
    species: int  # of the network
    settings: PredictSettings
    environment: tuple[tuple[str, str], ...]  # of the machine that the scores are to come from


@dataclass(frozen=True, slots=True)
class ShardDone:
    """What comes back from a shard."""

    machine: tuple[tuple[str, str], ...]  # that scored it
    notes: tuple[str, ...]  # what there is to say: GPU memory that was short
    floors: tuple[
        tuple[int, float | None], ...
    ] = ()  # of each species that is written, where not all is kept: what the rest lies above, as stored


def predict_shard(task: ShardTask) -> ShardDone:
    """Score one shard and write it to every species' store.

    Raises
    ------
    MachineError
        If this machine is of another kind, or its GPU is missing.
    """
    from tomostream.inference.region_scoring import missing_score

    if task.settings.is_coarse(task.plan.level):
        values, rows, done = score_shard_at_level(task)
        for number, store in task.stores:
            write_shard(place(store), task.index, values[number], seams=rows[number] if rows.size else None)
        return done
    scores, done = score_shard(task)
    floors: list[tuple[int, float | None]] = []
    for number, store in task.stores:  # one species after the other, so that only one is there twice
        stored = as_stored(scores[number], task.settings.score_dtype)
        if task.settings.candidates:
            floors.append((number, thinned(stored, missing_score(task.settings.score_dtype))))
        write_shard(place(store), task.index, stored)
    return replace(done, floors=tuple(floors))


def as_stored(scores: np.ndarray, dtype: str) -> np.ndarray:
    """Bring what `score_shard` gave of a species to the type that is stored, unless a GPU has done so."""
    from tomostream.inference.region_scoring import encode_scores

    return scores if scores.dtype == np.dtype(dtype) else encode_scores(scores, dtype)


def score_shard(task: ShardTask) -> tuple[np.ndarray, ShardDone]:
    """Score one shard: (species, z, y, x) in float32, or in the type that is stored where a GPU has encoded them; and what there is to say.

    Raises
    ------
    MachineError
        As of `predict_shard`.
    """
    from tomostream.inference.device_scores import DeviceScorer, stored_region
    from tomostream.inference.region_scoring import missing_score, score_region

    found, ready, tomogram = _opened(task)
    core = task.plan.shards.core(task.index)
    notes: list[str] = []
    dtype = task.settings.score_dtype
    restriction = Restriction(task.settings.box, task.settings.mask)
    if restriction.is_empty_in(core):
        scores = np.full((task.species, *core.shape), np.nan, dtype=np.float32)
    else:
        scorer = ready.scorer(task.statistics)
        read, as_logits = tomogram.read_standardised, task.settings.logits
        if isinstance(scorer, DeviceScorer):
            stored = stored_region(read, task.plan, core, scorer, as_logits=as_logits, dtype=dtype, note=notes.append)
            restriction.apply(stored, core, missing=missing_score(dtype))
            return stored, ShardDone(found, tuple(notes))
        scores = score_region(read, task.plan, core, scorer, as_logits=as_logits, note=notes.append)
        restriction.apply(scores, core)
    return scores, ShardDone(found, tuple(notes))


def score_shard_at_level(task: ShardTask) -> tuple[np.ndarray, np.ndarray, ShardDone]:
    """Score one shard at the network's level: logits (species, z, y, x), the rows of its seams (species, n), and what there is to say.

    Raises
    ------
    MachineError
        As of `predict_shard`.
    """
    from tomostream.inference.level_scoring import grid_of, level_shard

    found, ready, tomogram = _opened(task)
    core, notes = task.plan.shards.core(task.index), list[str]()
    if Restriction(task.settings.box, None).is_empty_in(core):
        grid = grid_of(task.plan)
        values = np.full((task.species, *grid.owned(core).shape), np.nan, dtype=np.float32)
        rows = np.full((task.species, grid.seam_values), np.nan, dtype=np.float32)
    else:
        values, rows = level_shard(tomogram.read_standardised, task.plan, task.index, ready.scorer(task.statistics), note=notes.append)
    return values, rows, ShardDone(found, tuple(notes))


def _opened(task: ShardTask) -> tuple[tuple[tuple[str, str], ...], Ready, Tomogram]:
    """Return what machine does a task, its model, and its tomogram at the model's level."""
    ready = resident(task.load)
    found = check_machine(task.name, task.load.device, task.environment)
    return found, ready, open_tomogram(task.path).at_level(ready.model.settings.level).with_normalisation(task.normalisation)


def check_machine(name: str, device: str, wanted: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """What decides the bits of scores here, if that is what is wanted of it; empty: any will do.

    Raises
    ------
    MachineError
        If this machine is of another kind, or its GPU is missing.
    """
    found = machine_environment(device)
    if wanted and found != wanted:
        raise MachineError(f"{socket.gethostname()} has {dict(found)}, the scores of '{name}' come from {dict(wanted)}")
    return found


def machine_environment(device: str) -> tuple[tuple[str, str], ...]:
    """What of this machine decides the bits of scores (guarantee 3).

    Raises
    ------
    MachineError
        If the device is missing.
    """
    from tomostream.inference.machine import environment

    try:
        return tuple(environment(device).items())
    except InputError as error:
        raise MachineError(f"{error} (on {socket.gethostname()})") from None
