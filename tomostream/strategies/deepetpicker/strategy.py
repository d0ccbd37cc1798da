"""The strategy `deepetpicker`; importing it does not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tomostream import defaults
from tomostream.config.configuration import LearningSettings
from tomostream.config.fields import Part
from tomostream.config.sections import Species
from tomostream.errors import InputError
from tomostream.progress import Progress
from tomostream.strategies.reading_level import choose_level
from tomostream.strategies.training_set import Labelled, Training

if TYPE_CHECKING:
    from tomostream.learn.processes import Processes
    from tomostream.strategies.model_folder import ModelRecord
    from tomostream.strategies.protocol import Model


class PatchStrategy:
    """DeepETPicker, built from the description in its paper; see `strategies.protocol.Strategy`."""

    name = "deepetpicker"
    summary = "residual U-Net with coordinate channels, Dice loss, mean-pooling (Liu et al. 2024)"
    model_kind = "deepetpicker"
    picker = "mean-pool"
    needs_prior = False
    sections: Mapping[str, type[Part]] = MappingProxyType({})
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
        """Refuse patches that are not longer than their padding."""
        crop, padding = settings.train.crop, defaults.PATCH_PADDING_VOX
        if crop <= 2 * padding:
            raise InputError(
                f"train.crop: the patches of {self.name} only look at {padding} voxels on each side, so they must be longer than {2 * padding}, found {crop}"
            )

    def reading_level(self, species: Iterable[Species], spacing: float, level: int | str) -> int:
        """Return the coarsest level at which the smallest particle is still seen, unless one is asked for."""
        return choose_level(species, spacing, level)

    def step_bytes(self, settings: LearningSettings) -> int | None:
        """Return 0: a step of this network was not measured."""
        return 0

    def describe(self, settings: LearningSettings, level: int) -> str:
        """Say steps, crops, level and name."""
        train = settings.train
        return f"{train.steps} steps of {train.batch} crops of {train.crop}, level {level}, objective {self.name}"

    def fingerprint(self, settings: LearningSettings) -> dict[str, Any]:
        """Return all settings of network and training."""
        return {"network": settings.network.model_dump(mode="json"), "train": settings.train.model_dump(mode="json", exclude={"start"})}

    def train(self, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
        """Train and write the model folder."""
        from tomostream.strategies.deepetpicker.training import train_patches

        train_patches(training, folder, progress, processes)

    def untrained(self, settings: LearningSettings, spacing: float) -> Model:
        """Return a model of the network as it is before training."""
        from tomostream.strategies.deepetpicker.model import PatchModel
        from tomostream.strategies.deepetpicker.network import CoordinateUNet
        from tomostream.strategies.deepetpicker.training import described_by
        from tomostream.strategies.model_folder import TrainingSummary
        from tomostream.strategies.network_arrays import network_arrays

        level = self.reading_level(settings.species, spacing, settings.network.level)
        described = described_by(Training(settings, Labelled([], []), None, level, spacing, {}, 0))
        network = CoordinateUNet(described.channels, len(described.species), seed=0)
        return PatchModel(described, TrainingSummary(), Path(), network_arrays(network))

    def load(self, record: ModelRecord, weights: bytes, folder: Path) -> Model:
        """Load a trained model."""
        from tomostream.strategies.deepetpicker.model import unpack

        return unpack(record, weights, folder)


STRATEGY = PatchStrategy()
