"""The strategy `deepetpicker`; importing it does not import torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tomostream import defaults
from tomostream.config.configuration import LearningSettings
from tomostream.errors import InputError
from tomostream.progress import Progress
from tomostream.strategies.network_strategy import NetworkStrategy
from tomostream.strategies.training_set import Training

if TYPE_CHECKING:
    from tomostream.learn.processes import Processes
    from tomostream.strategies.model_folder import ModelRecord
    from tomostream.strategies.protocol import Model

# at the peak of a step; just above the measured peaks
_VOXEL_BYTES = 140  # per voxel of the patches: images, coordinates, labels and the loss
_CHANNEL_BYTES = {"float32": 108, "bf16": 66}  # per value of the feature maps; a level has an eighth of the voxels of the one before


class PatchStrategy(NetworkStrategy):
    """DeepETPicker, implemented from the description in its paper; see `strategies.protocol.Strategy`."""

    name = "deepetpicker"
    summary = "residual U-Net with coordinate channels, Dice loss, mean-pooling (Liu et al. 2024)"
    model_kind = "deepetpicker"
    picker = "mean-pool"
    defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType(
        {
            "network": {"channels": defaults.DEEPETPICKER_CHANNELS, "batch_statistics": "training"},  # as published
            "train": {
                "crop": defaults.DEEPETPICKER_CROP_VOX,
                "batch": defaults.DEEPETPICKER_BATCH,
                "learning_rate": defaults.DEEPETPICKER_LEARNING_RATE,
                "labelled_fraction": 1.0,
                "label_shape": "gaussian",
            },
        }
    )

    def check(self, settings: LearningSettings) -> None:
        """Refuse patches that are not longer than the padding on both sides."""
        crop, padding = settings.train.crop, defaults.PATCH_PADDING_VOX
        if crop <= 2 * padding:
            raise InputError(
                f"train.crop: the patches of {self.name} have a padding of {padding} voxels on each side, so they must be longer than {2 * padding}, found {crop}"
            )

    def step_bytes(self, settings: LearningSettings) -> int | None:
        """Project the peak memory of a training step, in bytes; 0 on a GPU, whose memory holds it."""
        precision, train = self.precision_on_cpu(settings), settings.train
        if precision is None:
            return 0
        values = sum(channels / 8.0**level for level, channels in enumerate(settings.network.channels))
        return math.ceil(train.batch * train.crop**3 * (_VOXEL_BYTES + _CHANNEL_BYTES[precision] * values))

    def train(self, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
        """Train and write the model folder."""
        from tomostream.strategies.deepetpicker.training import train_patches

        train_patches(training, folder, progress, processes)

    def untrained(self, settings: LearningSettings, spacing: float) -> Model:
        """Return a model with the initial weights."""
        from tomostream.strategies.deepetpicker.model import PatchModel
        from tomostream.strategies.deepetpicker.training import described_by

        level = self.reading_level(settings.species, spacing, settings.network.level)
        return PatchModel.untrained(described_by(Training.planned(settings, level, spacing)))

    def load(self, record: ModelRecord, weights: bytes, folder: Path) -> Model:
        """Load a trained model."""
        from tomostream.strategies.array_model import unpack
        from tomostream.strategies.deepetpicker.model import PatchModel, PatchSettings

        return unpack(PatchModel, PatchSettings, record, weights, folder)


STRATEGY = PatchStrategy()
