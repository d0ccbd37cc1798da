"""The training loop that all strategies with a network share.

1. A strategy gives its network, crops, objective, and how a region is scored and picked (`Parts`).
2. The validation is planned and its crops are read once, by the first process only.
3. `learn.fit` steps, validates, keeps the best epoch and its checkpoints.

`train_network` leaves the model to the strategy; `train_network_model` writes one that is the network alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from scipy.special import expit
from torch import nn

from tomostream import defaults
from tomostream.geometry import Box, triple
from tomostream.inference.batch_statistics import Sampling
from tomostream.inference.protocol import BlockScorer
from tomostream.inference.region_scoring import read_extended
from tomostream.learn.batch import Batch
from tomostream.learn.fit import FitResult, Lesson, fit
from tomostream.learn.objectives import Criterion
from tomostream.learn.precision import resolve_device, resolve_precision
from tomostream.learn.processes import ALONE, Processes
from tomostream.learn.steps import FitSettings
from tomostream.progress import Progress
from tomostream.strategies.model_folder import ModelSettings, TrainingSummary, pack_arrays, write_folder
from tomostream.strategies.network_arrays import network_arrays
from tomostream.strategies.training_set import Labelled, Training
from tomostream.strategies.validation import Pick, Score, plan_validation
from tomostream.stream.dataset import SubtomogramDataset

VALIDATION_BATCHES = 4  # of labelled crops, for the validation loss


@runtime_checkable  # the tests check every annotation
class Crops(Protocol):
    """Batches of crops: those of an epoch, and uniform ones (`stream.dataset`)."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of the epoch."""

    def uniform_images(self, count: int, *, seed: int) -> Iterator[torch.Tensor]:
        """Batches (n, 1, z, y, x) of `count` crops in all, drawn uniformly."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What differs between networks.

    Parameters
    ----------
    network
        To be trained in place.
    crops
        Of labelled tomograms, a process's share of those to train on; or with None those of the validation loss, all around labels.
    objective
        From the processes that train together to what is minimised.
    sampling
        The crops that a tomogram's batch-norm statistics come from.
    recalibration_crops
        How many uniform crops give the statistics of a network that is kept.
    score
        From a network with its statistics, a region and a precision to scores.
    pick
        From scores to picks.
    title, label_text
        What the first line of the log says before the tomograms, and after the labels.
    label_radius_vox
        Of the labels, per species, voxels of the level, for the model's record.
    """

    network: nn.Module
    crops: Callable[[Labelled, Processes | None], Crops]
    objective: Callable[[Processes], Criterion]
    sampling: Sampling
    recalibration_crops: int
    score: Score
    pick: Pick
    title: str
    label_text: str
    label_radius_vox: list[float]


def train_network(parts: Parts, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> FitResult:
    """Train `parts.network` in place; it ends in evaluation mode with the best epoch's weights.

    Parameters
    ----------
    folder
        Gets checkpoints and metrics; None in all processes but the first.

    Raises
    ------
    TomostreamError
        If training fails.
    """
    settings, train = training.settings, training.settings.train
    dataset = parts.crops(training.labelled, processes)
    device = resolve_device(settings.device)
    precision = resolve_precision(train.precision, device)
    validation = plan_validation(
        training,
        training.validation if processes.is_first else None,
        # read once, and freed with its buffer
        list(parts.crops(training.validation or training.labelled, None)) if processes.is_first else [],
        objective=parts.objective(ALONE),
        precision=precision,
        sampling=parts.sampling,
        score=parts.score,
        pick=parts.pick,
    )

    def batches(epoch: int) -> Iterator[Batch]:
        dataset.set_epoch(epoch)
        return iter(dataset)

    def uniform() -> Iterator[torch.Tensor]:
        return dataset.uniform_images(parts.recalibration_crops, seed=train.seed)

    progress.say(
        f"{parts.title} on {', '.join(training.labelled.names)}: level {training.level} ({training.level_spacing:g} A per voxel), "
        f"{training.labelled.total} labels, {parts.label_text}{precision}{processes_note(processes, train.batch)}"
    )
    with progress.track("train", train.steps) as bar:
        return fit(
            parts.network,
            Lesson(batches, parts.objective(processes), validation.measure, uniform),
            fit_settings(training, precision),
            folder=folder,
            fingerprint=training.fingerprint,
            report=bar.advance,
            processes=processes,
        )


def train_network_model(
    parts: Parts, training: Training, folder: Path | None, progress: Progress, processes: Processes, *, kind: str, settings: ModelSettings
) -> None:
    """Train, and write the folder of a model that is the network alone.

    Parameters
    ----------
    folder
        As of `train_network`.
    kind
        See `model_folder.write_folder`.
    settings
        Of the model.

    Raises
    ------
    TomostreamError
        If training fails.
    """
    result = train_network(parts, training, folder, progress, processes)
    if folder is None:  # the first process writes the model
        return
    summary = TrainingSummary(best_epoch=result.best_epoch, label_radius_vox=parts.label_radius_vox, processes=trained_by(processes))
    write_folder(folder, kind, pack_arrays(network_arrays(parts.network)), settings, summary)
    progress.say(best_epoch_note(result))


def fit_settings(training: Training, precision: str) -> FitSettings:
    """How long and how fast to train."""
    train = training.settings.train
    return FitSettings(
        steps=train.steps,
        minutes=train.minutes,
        steps_per_epoch=train.steps_per_epoch,
        learning_rate=train.learning_rate,
        schedule=train.schedule,
        weight_decay=defaults.WEIGHT_DECAY,
        precision=precision,
        device=training.settings.device,
    )


def best_epoch_note(result: FitResult) -> str:
    """What the log says at the end."""
    best = result.rows[result.best_epoch - 1]
    return f"best epoch {result.best_epoch} of {len(result.rows)}: criterion {best['criterion']:.3f}"


def processes_note(processes: Processes, batch: int) -> str:
    """What the log says of distributed training; empty for one process."""
    return "" if processes.world == 1 else f"; {processes.world} processes, {processes.world} x {batch} crops a step"


def trained_by(processes: Processes) -> int | None:
    """How many processes trained, for the summary; None for one."""
    return None if processes.world == 1 else processes.world


def crops_of(training: Training, labelled: Labelled, radii: list[float], *, stride: int, processes: Processes | None) -> Crops:
    """Cubic crops to train on, the share of one of the processes; or, with None, those of the validation loss, all around labels.

    Parameters
    ----------
    radii
        Of the labels, voxels of the level.
    stride
        Of the network.
    """
    train = training.settings.train
    return SubtomogramDataset(
        tomograms=labelled.tomograms,
        points=labelled.points,
        radius=radii,
        label_shape=train.label_shape,
        crop=train.crop,
        stride=stride,
        batch=train.batch,
        symmetry="none" if processes is None else train.symmetry,
        **drawing(training, processes),
    )


def drawing(training: Training, processes: Processes | None) -> dict[str, Any]:
    """How crops are drawn, whatever their shape: keywords of `SubtomogramDataset`."""
    train = training.settings.train
    return {
        "batches_per_epoch": VALIDATION_BATCHES if processes is None else train.steps_per_epoch,
        "labelled_fraction": 1.0 if processes is None else train.labelled_fraction,
        "seed": train.seed,
        "buffer_bytes": training.buffer_bytes,
        "rank": 0 if processes is None else processes.rank,
        "world": 1 if processes is None else processes.world,
    }


def scores_by(scorer: Callable[[Any, str, str], BlockScorer]) -> Score:
    """Return what scores a region with a network, its device and a precision given to `scorer`."""

    def score(network: nn.Module, volume: np.ndarray, precision: str) -> np.ndarray:
        return probabilities(scorer(network, next(network.parameters()).device.type, precision), volume)

    return score


def probabilities(scorer: BlockScorer, volume: np.ndarray) -> np.ndarray:
    """Score a region as if it were a whole volume: float32 (species, z, y, x)."""
    shape = triple(volume.shape)
    whole = Box.whole(shape)
    read = scorer.read_box(whole, shape)
    scores: np.ndarray = expit(scorer.logits(read_extended(lambda box: volume[box.slices], read, shape), read, whole, shape))
    return scores
