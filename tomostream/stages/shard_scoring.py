"""What does a worker do for `predict`?  It scores one shard: reads its own halo, writes its own shard to every species' store.

The task is small and says all that is needed, so it can be done by anyone, and again; the bytes are the same.  The model is loaded
once a process (`ScorerLoad`, kept by the pool).  A worker of another kind than the one that the scores began with (processor, GPU,
library versions) would write other bytes: it gives the task back, as it does when its GPU is missing.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.cluster import resident
from tomostream.errors import InputError, MachineError
from tomostream.geometry import Box, Triple
from tomostream.normalisation import Normalisation
from tomostream.remote.copies import local_folder
from tomostream.remote.places import Place, place
from tomostream.stages.restriction import Restriction
from tomostream.store.omezarr import write_shard
from tomostream.tomogram import open_tomogram

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
    mixed_devices: bool = False  # machines of several kinds may share a score map; it says so then

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
class ScorerLoad:
    """Loads the model and makes it ready to score, once a process."""

    model: str
    device: str
    precision: str
    threads: int
    gpu_memory: int | None

    def __call__(self) -> tuple[AnyModel, AnyScorer]:
        """Load."""
        from tomostream.strategies.loading import load_model, open_scorer

        loaded = load_model(local_model(place(self.model)))
        try:
            scorer = open_scorer(loaded, device=self.device, precision=self.precision, threads=self.threads, gpu_memory=self.gpu_memory)
        except InputError as error:
            if self.device == "cpu":
                raise
            raise MachineError(f"{error} (on {socket.gethostname()})") from None  # the GPU; another machine may have one
        return loaded, scorer


@dataclass(frozen=True, slots=True)
class ShardTask:
    """All that a worker needs to score one shard."""

    name: str  # of the tomogram
    path: str
    normalisation: Normalisation
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


def predict_shard(task: ShardTask) -> ShardDone:
    """Score one shard and write it to every species' store.

    Raises
    ------
    MachineError
        If this machine is of another kind, or its GPU is missing.
    """
    from tomostream.inference.regions import encode_scores, score_region

    model, scorer = resident(task.load)
    found = machine_environment(task.load.device)
    if task.environment and found != task.environment:  # none is asked for where kinds may be mixed
        raise MachineError(f"{socket.gethostname()} has {dict(found)}, the scores of '{task.name}' come from {dict(task.environment)}")
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
    return ShardDone(found, tuple(notes))


def machine_environment(device: str) -> tuple[tuple[str, str], ...]:
    """What of this machine decides the bits of scores (guarantee 3).

    Raises
    ------
    MachineError
        If the device is not there.
    """
    from tomostream.inference.scorer import environment

    try:
        return tuple(environment(device).items())
    except InputError as error:
        raise MachineError(f"{error} (on {socket.gethostname()})") from None


def local_model(folder: Place) -> Path:
    """Give a model folder as a local one; a remote one is fetched once a process."""
    return local_folder(folder, ("model.safetensors", "model.json"))
