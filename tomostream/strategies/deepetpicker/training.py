"""Train `deepetpicker`: the shared loop, with its own network, labels and loss.

1. Labels: a thresholded Gaussian around each centre, smaller than the particle; all else is background.
2. Crops around labels only, as large as the patches of inference will be.
3. Dice loss; after each epoch the validation tomogram is scored by patches and picked by mean-pooling, and the best epoch kept.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn

from tomostream import defaults
from tomostream.geometry import triple
from tomostream.learn.objectives import Objective
from tomostream.learn.processes import Processes
from tomostream.picking.how_many import Best
from tomostream.picking.pooled import PICKER as POOLED
from tomostream.picking.protocol import Execution, PickRequest, Picks, Source
from tomostream.progress import Progress
from tomostream.strategies.deepetpicker.loss import Dice
from tomostream.strategies.deepetpicker.model import KIND, PatchSettings, label_radius, patch_sampling
from tomostream.strategies.deepetpicker.network import CoordinateUNet
from tomostream.strategies.deepetpicker.patches import PatchScorer
from tomostream.strategies.model_folder import TrainingSummary, pack_arrays, write_folder
from tomostream.strategies.network_arrays import network_arrays
from tomostream.strategies.network_training import Parts, best_epoch_note, crops_of, probabilities, train_network, trained_by
from tomostream.strategies.training_set import Training
from tomostream.version import VERSION


def train_patches(training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
    """Train the network and write the model folder; `folder` is None in all processes but the first.

    Raises
    ------
    TomostreamError
        If training fails.
    """
    settings = training.settings
    train, count = settings.train, len(settings.species)
    patch = triple(train.crop)
    given = training.given_label_radius_vox
    radii = [label_radius(radius) if given is None else given for radius in training.radii_vox]
    network = CoordinateUNet(settings.network.channels, count, seed=train.seed)
    objective = Objective(KIND, (Dice(),) * count, (1.0,) * count, ())

    def score(candidate: nn.Module, volume: np.ndarray, precision: str) -> np.ndarray:
        if not isinstance(candidate, CoordinateUNet):
            raise TypeError("deepetpicker trains a CoordinateUNet")
        device = next(candidate.parameters()).device.type
        padding = defaults.PATCH_PADDING_VOX
        return probabilities(PatchScorer(candidate, edge=patch, padding=padding, device=device, precision=precision, threads=None), volume)

    parts = Parts(
        network=network,
        crops=lambda labelled, own: crops_of(training, labelled, radii, stride=network.stride, processes=own),
        objective=lambda together: replace(objective, processes=together),
        sampling=patch_sampling(network, patch),
        recalibration_crops=defaults.DEEPETPICKER_RECALIBRATION_CROPS,
        score=score,
        pick=_pooled_picks,
        title=f"training {KIND}",
        label_text=f"of radius {', '.join(f'{r:.1f}' for r in radii)} voxels, ",
    )
    result = train_network(parts, training, folder, progress, processes)
    if folder is None:  # the first process writes the model
        return
    summary = TrainingSummary(best_epoch=result.best_epoch, label_radius_vox=radii, processes=trained_by(processes))
    write_folder(folder, KIND, pack_arrays(network_arrays(network)), described_by(training), summary)
    progress.say(best_epoch_note(result))


def described_by(training: Training) -> PatchSettings:
    """Return the settings of the model that a training gives."""
    settings = training.settings
    return PatchSettings(
        species=training.species_names,
        radius_ang=training.radii_ang,
        level=training.level,
        spacing=training.spacing,
        clip_sigma=defaults.CLIP_SIGMA,
        normalisation=training.normalisation,
        trained_on=training.labelled.names,
        version=VERSION,
        batch_statistics=settings.network.batch_statistics,
        channels=tuple(settings.network.channels),
        patch=triple(settings.train.crop),
        padding=defaults.PATCH_PADDING_VOX,
    )


def _pooled_picks(scores: np.ndarray, radius: float, count: int, memory: int) -> Picks:
    """Pick as the strategy's scores are picked by default."""
    return POOLED.pick(Source.of(scores, values="probability"), PickRequest(radius=radius, how_many=Best(count)), Execution(memory=memory))
