"""Base class for strategies that train a network in steps; importing it does not import torch.

Such a strategy consists of a `NetworkStrategy`, a `strategies.array_model.NetworkModel`, and the `Parts` that it passes to
`strategies.network_training.train_network_model`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tomostream.config.configuration import LearningSettings
from tomostream.config.fields import Part
from tomostream.config.sections import Species
from tomostream.fingerprint import Fingerprint
from tomostream.progress import Progress
from tomostream.strategies.reading_level import choose_level
from tomostream.strategies.training_set import Training

if TYPE_CHECKING:
    from tomostream.learn.processes import Processes
    from tomostream.strategies.model_folder import ModelRecord
    from tomostream.strategies.protocol import Model


class NetworkStrategy(ABC):
    """A `strategies.protocol.Strategy` with defaults for everything that does not depend on the network."""

    name: str
    summary: str
    model_kind: str
    picker: str
    needs_prior: bool = False
    sections: Mapping[str, type[Part]] = MappingProxyType({})
    defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    def check(self, settings: LearningSettings) -> None:  # noqa: B027 (a strategy may have nothing to refuse)
        """Accept all settings; the sections have checked their own values."""

    def reading_level(self, species: Iterable[Species], spacing: float, level: int | str) -> int:
        """Return the level asked for, or with `auto` the coarsest at which the smallest particle can still be seen."""
        return choose_level(species, spacing, level)

    def step_bytes(self, settings: LearningSettings) -> int | None:
        """Return 0; a strategy that projects the memory of a step overrides this."""
        return 0

    @staticmethod
    def precision_on_cpu(settings: LearningSettings) -> str | None:
        """Return the precision of a training step, for a projection of its memory; None on a GPU, whose memory holds the feature maps."""
        from tomostream.learn.precision import resolve_device, resolve_precision

        device = resolve_device(settings.device)
        return resolve_precision(settings.train.precision, device) if device.type == "cpu" else None

    def describe(self, settings: LearningSettings, level: int) -> str:
        """Describe training by its steps, crops, level and objective."""
        train = settings.train
        return f"{train.steps} steps of {train.batch} crops of {train.crop}, level {level}, objective {self.name}"

    def fingerprint(self, settings: LearningSettings) -> Fingerprint:
        """Return all settings of the network, of training and of the strategy's own sections, except those that only some strategies use."""
        parts: dict[str, Part] = {"network": settings.network, "train": settings.train, **settings.own}
        values: Fingerprint = {key: part.model_dump(mode="json", by_alias=True) for key, part in parts.items()}
        for key in ("start", "together", "pasted"):
            del values["train"][key]
        return values

    @abstractmethod
    def train(self, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
        """Train and write the model folder."""

    @abstractmethod
    def untrained(self, settings: LearningSettings, spacing: float) -> Model:
        """Return a model with the initial weights."""

    @abstractmethod
    def load(self, record: ModelRecord, weights: bytes, folder: Path) -> Model:
        """Load a trained model."""
