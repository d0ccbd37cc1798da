"""Train a network; shared by all strategies that have one.

1. The strategy provides the network, the crops, the objective, and functions that score and pick a region (`Parts`).
2. The first process plans the validation and reads its crops once.
3. `learn.fit` runs the steps, validates after each epoch, writes checkpoints and keeps the best epoch.

`train_network` trains only, and the strategy writes the model; `train_network_model` also writes a model that consists of the network alone.
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
from tomostream.stream.paste import Pasting
from tomostream.stream.plan import Rejected

VALIDATION_BATCHES = 4  # batches of labelled crops for the validation loss


@runtime_checkable  # the tests check every annotation
class Crops(Protocol):
    """A source of crops: the batches of each epoch, and crops drawn uniformly from the tomograms (`stream.dataset`)."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of the epoch."""

    def uniform_images(self, count: int, *, seed: int) -> Iterator[torch.Tensor]:
        """Yield batches (n, 1, z, y, x) that hold `count` crops in total, drawn uniformly."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of training that depend on the strategy.

    Parameters
    ----------
    network
        The network; it is trained in place.
    crops
        Function of labelled tomograms and processes that returns this process's share of the training crops.  With None for the processes it
        returns the crops of the validation loss, all of them around labels.
    objective
        Function of the processes that train together that returns the criterion to minimise.
    sampling
        The crops from which the batch-norm statistics of a tomogram are measured.
    recalibration_crops
        Number of uniform crops from which the network's batch-norm statistics are recomputed after each epoch.
    score
        Function that scores a region, given a network with its statistics, the region and a precision.
    pick
        Function that picks in scores.
    title, label_text
        Parts of the first line of the log: `title` goes before the names of the tomograms, `label_text` after the number of labels.
    label_radius_vox
        Radius of the labels per species, in voxels of the level, for the model's record.
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
    """Train `parts.network` in place; it ends in evaluation mode with the weights of the best epoch.

    Parameters
    ----------
    folder
        Folder for checkpoints and metrics; None in all processes but the first.

    Raises
    ------
    TomostreamError
        If training fails.
    """
    settings, train = training.settings, training.settings.train
    dataset = parts.crops(training.labelled, processes)
    device = resolve_device(settings.device)
    precision = resolve_precision(train.precision, device)
    if train.precision not in ("auto", precision):
        progress.warn(
            f"train.precision is {train.precision}, but this processor has no {train.precision}; training computes in {precision}"
        )
    validation = plan_validation(
        training,
        training.validation if processes.is_first else None,
        # read now, so that the dataset and its buffer are freed before training
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
    if training.validation is not None and processes.is_first:
        where = "one region" if len(validation.regions) == 1 else f"{len(validation.regions)} regions"
        progress.say(f"validation: {validation.clicks} of {training.validation.total} clicks count, in {where}")
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
    """Train, and write the folder of a model that consists of the network alone.

    Parameters
    ----------
    folder
        See `train_network`.
    kind
        Kind of model; see `model_folder.write_folder`.
    settings
        Settings of the model.

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
    """Return the settings of the training loop: its length, learning rate, precision and device."""
    train = training.settings.train
    return FitSettings(
        steps=train.steps,
        minutes=training.settings.minutes,
        steps_per_epoch=train.steps_per_epoch,
        learning_rate=train.learning_rate,
        schedule=train.schedule,
        weight_decay=defaults.WEIGHT_DECAY,
        precision=precision,
        device=training.settings.device,
    )


def best_epoch_note(result: FitResult) -> str:
    """Return the last line of the log: the best epoch and its criterion."""
    best = result.rows[result.best_epoch - 1]
    return f"best epoch {result.best_epoch} of {len(result.rows)}: criterion {best['criterion']:.3f}"


def processes_note(processes: Processes, batch: int) -> str:
    """Return the part of the log line that reports distributed training; empty for one process."""
    return "" if processes.world == 1 else f"; {processes.world} processes, {processes.world} x {batch} crops a step"


def trained_by(processes: Processes) -> int | None:
    """Return the number of processes for the training summary; None for one process."""
    return None if processes.world == 1 else processes.world


def crops_of(
    training: Training,
    labelled: Labelled,
    radii: list[float],
    *,
    stride: int,
    processes: Processes | None,
    negative_radii: list[float] | None = None,
    pasting: Pasting | None = None,
) -> Crops:
    """Return a dataset of cubic crops.

    Parameters
    ----------
    labelled
        Tomograms to draw from.
    radii
        Radius of the labels per species, in voxels of the level.
    stride
        Total stride of the network, in voxels.
    processes
        The processes that train together: the dataset yields the training crops of this one.  None: the dataset yields the crops of the validation
        loss, all of them around labels and none of them turned.
    negative_radii
        Radius of the balls around rejected places per species, in voxels of the level; None: rejected places are not looked at.
    pasting
        Copies of clicked particles in the training crops; None: there are none.
    """
    train = training.settings.train
    drawn = drawing(training, processes)
    if negative_radii is not None and labelled.rejected is not None:
        drawn |= _with_rejected(labelled, labelled.rejected, negative_radii, drawn["labelled_fraction"])
    return SubtomogramDataset(
        tomograms=labelled.tomograms,
        points=labelled.points,
        radius=radii,
        label_shape=train.label_shape,
        crop=train.crop,
        stride=stride,
        batch=train.batch,
        symmetry="none" if processes is None else train.symmetry,
        pasting=None if processes is None else pasting,
        **drawn,
    )


def _with_rejected(labelled: Labelled, places: list[list[np.ndarray]], radii: list[float], labelled_fraction: float) -> dict[str, Any]:
    """Return the keywords of `SubtomogramDataset` that have crops drawn around rejected places too, at the cost of uniform ones.

    As many crops as before are drawn around clicks.  The more places there are for a click, the more crops are drawn around them.
    """
    count = sum(len(own) for of_tomogram in places for own in of_tomogram)
    around = defaults.REJECTED_CROPS * (1 - labelled_fraction) * min(1.0, count / max(1, labelled.total))
    fraction = labelled_fraction + around
    return {"labelled_fraction": fraction, "rejected": Rejected(places, radii, around / fraction if fraction else 0.0)}


def drawing(training: Training, processes: Processes | None) -> dict[str, Any]:
    """Return the keywords of `SubtomogramDataset` that say how crops are drawn; see `crops_of` for `processes`."""
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
    """Return a function that scores a region with the block scorer that `scorer(network, device, precision)` makes."""

    def score(network: nn.Module, volume: np.ndarray, precision: str) -> np.ndarray:
        return probabilities(scorer(network, next(network.parameters()).device.type, precision), volume)

    return score


def probabilities(scorer: BlockScorer, volume: np.ndarray) -> np.ndarray:
    """Score a region as if it were a whole volume; return float32 (species, z, y, x) between 0 and 1."""
    shape = triple(volume.shape)
    whole = Box.whole(shape)
    read = scorer.read_box(whole, shape)
    scores: np.ndarray = expit(scorer.logits(read_extended(lambda box: volume[box.slices], read, shape), read, whole, shape))
    return scores
