"""The strategy `slices2d`; importing it does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tomostream import defaults
from tomostream.config.configuration import LearningSettings
from tomostream.progress import Progress
from tomostream.strategies.network_strategy import NetworkStrategy
from tomostream.strategies.training_set import Training

if TYPE_CHECKING:
    from tomostream.learn.processes import Processes
    from tomostream.strategies.model_folder import ModelRecord
    from tomostream.strategies.protocol import Model


class SliceStrategy(NetworkStrategy):
    """A 2-D detector on slices, like crYOLO; see `strategies.protocol.Strategy`."""

    name = "slices2d"
    summary = "2-D single-shot detector on slices, boxes traced through z (the crYOLO way)"
    model_kind = "slices2d"
    picker = "trace"
    defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType(
        {
            "network": {"channels": defaults.SLICES2D_CHANNELS, "batch_statistics": "training"},  # as published
            "train": {"crop": defaults.SLICES2D_CROP_VOX},
        }
    )

    def step_bytes(self, settings: LearningSettings) -> int | None:
        """Project the peak memory of a training step, in bytes; 0 on a GPU, whose memory holds it."""
        from tomostream.strategies.slices2d.cost import expected_half_height, slab_step_bytes
        from tomostream.strategies.slices2d.slabs import slab_height

        precision, network, edge = self.precision_on_cpu(settings), settings.network, settings.train.crop
        if precision is None:
            return 0
        slab = (slab_height(expected_half_height(settings), 2 ** (len(network.channels) - 1)), edge, edge)
        return slab_step_bytes(network.channels, slab, batch=settings.train.batch, species=len(settings.species), precision=precision)

    def train(self, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
        """Train and write the model folder."""
        from tomostream.strategies.slices2d.training import train_slices

        train_slices(training, folder, progress, processes)

    def untrained(self, settings: LearningSettings, spacing: float) -> Model:
        """Return a model with the initial weights."""
        from tomostream.strategies.slices2d.model import SliceModel
        from tomostream.strategies.slices2d.training import described_by

        level = self.reading_level(settings.species, spacing, settings.network.level)
        return SliceModel.untrained(described_by(Training.planned(settings, level, spacing)))

    def load(self, record: ModelRecord, weights: bytes, folder: Path) -> Model:
        """Load a trained model."""
        from tomostream.strategies.array_model import unpack
        from tomostream.strategies.slices2d.model import SliceModel, SliceSettings

        return unpack(SliceModel, SliceSettings, record, weights, folder)


STRATEGY = SliceStrategy()
