"""The strategy `slices2d`; importing it does not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tomostream import defaults
from tomostream.config.configuration import LearningSettings
from tomostream.config.fields import Part
from tomostream.config.sections import Species
from tomostream.progress import Progress
from tomostream.strategies.reading_level import choose_level
from tomostream.strategies.training_set import Labelled, Training

if TYPE_CHECKING:
    from tomostream.learn.processes import Processes
    from tomostream.strategies.model_folder import ModelRecord
    from tomostream.strategies.protocol import Model


class SliceStrategy:
    """A detector on slices in the way of crYOLO; see `strategies.protocol.Strategy`."""

    name = "slices2d"
    summary = "2-D single-shot detector on slices, boxes traced through z (the crYOLO way)"
    model_kind = "slices2d"
    picker = "trace"
    needs_prior = False
    sections: Mapping[str, type[Part]] = MappingProxyType({})
    defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType(
        {
            "network": {"channels": defaults.SLICES2D_CHANNELS, "batch_statistics": "training"},  # as published
            "train": {"crop": defaults.SLICES2D_CROP_VOX},
        }
    )

    def check(self, settings: LearningSettings) -> None:
        """Accept all: the sections check themselves."""

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
        from tomostream.strategies.slices2d.training import train_slices

        train_slices(training, folder, progress, processes)

    def untrained(self, settings: LearningSettings, spacing: float) -> Model:
        """Return a model of the network as it is before training."""
        from tomostream.strategies.model_folder import TrainingSummary
        from tomostream.strategies.network_arrays import network_arrays
        from tomostream.strategies.slices2d.detector import SliceDetector
        from tomostream.strategies.slices2d.model import SliceModel
        from tomostream.strategies.slices2d.training import described_by

        level = self.reading_level(settings.species, spacing, settings.network.level)
        described = described_by(Training(settings, Labelled([], []), None, level, spacing, {}, 0))
        network = SliceDetector(described.channels, len(described.species), seed=0)
        return SliceModel(described, TrainingSummary(), Path(), network_arrays(network))

    def load(self, record: ModelRecord, weights: bytes, folder: Path) -> Model:
        """Load a trained model."""
        from tomostream.strategies.slices2d.model import unpack

        return unpack(record, weights, folder)


STRATEGY = SliceStrategy()
