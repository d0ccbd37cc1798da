"""Train `deepetpicker` with the shared training loop (`strategies.network_training`).

1. The labels are thresholded Gaussians around the centres, smaller than the particle; everything else is background.
2. The crops are all drawn around labels, and have the size of the patches used in inference.
3. The objective is the Dice loss (`loss`).  After each epoch the validation tomograms are scored in patches and picked by mean-pooling; the best
   epoch is kept.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tomostream import defaults
from tomostream.geometry import triple
from tomostream.learn.objectives import Objective
from tomostream.learn.processes import Processes
from tomostream.picking.pooled import PICKER as POOLED
from tomostream.progress import Progress
from tomostream.strategies.deepetpicker.loss import Dice
from tomostream.strategies.deepetpicker.model import KIND, PatchSettings, label_radius, patch_sampling
from tomostream.strategies.deepetpicker.network import CoordinateUNet
from tomostream.strategies.network_training import Parts, crops_of, scores_by, train_network_model
from tomostream.strategies.patches import PatchScorer
from tomostream.strategies.trained_settings import settings_from
from tomostream.strategies.training_set import Training
from tomostream.strategies.validation import picks_by


def train_patches(training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
    """Train the network and write the model folder; parameters as in `strategies.protocol.Strategy.train`.

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

    def scorer(candidate: CoordinateUNet, device: str, precision: str) -> PatchScorer:
        padding = defaults.PATCH_PADDING_VOX
        return PatchScorer(candidate, edge=patch, padding=padding, device=device, precision=precision, threads=None)

    parts = Parts(
        network=network,
        crops=lambda labelled, own: crops_of(training, labelled, radii, stride=network.stride, processes=own),
        objective=lambda together: replace(objective, processes=together),
        sampling=patch_sampling(network, patch),
        recalibration_crops=defaults.DEEPETPICKER_RECALIBRATION_CROPS,
        score=scores_by(scorer),
        pick=picks_by(POOLED),
        title=f"training {KIND}",
        label_text=f"of radius {', '.join(f'{r:.1f}' for r in radii)} voxels, ",
        label_radius_vox=radii,
    )
    train_network_model(parts, training, folder, progress, processes, kind=KIND, settings=described_by(training))


def described_by(training: Training) -> PatchSettings:
    """Return the settings of the model that a training produces."""
    settings = training.settings
    return settings_from(
        PatchSettings,
        training,
        batch_statistics=settings.network.batch_statistics,
        channels=tuple(settings.network.channels),
        patch=triple(settings.train.crop),
        padding=defaults.PATCH_PADDING_VOX,
    )
