"""The strategy `few_shot`; importing it does not import torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from tomostream import defaults
from tomostream.config.configuration import LearningSettings
from tomostream.config.fields import Part
from tomostream.config.sections import Species
from tomostream.errors import InputError
from tomostream.fingerprint import Fingerprint
from tomostream.progress import Progress
from tomostream.strategies.reading_level import choose_level
from tomostream.strategies.training_set import Training
from tomostream.strategies.unet.pretrained.settings import CHANNELS, SHA256

if TYPE_CHECKING:
    from tomostream.learn.processes import Processes
    from tomostream.strategies.model_folder import ModelRecord
    from tomostream.strategies.protocol import Model


class FewShotStrategy:
    """A linear head on pretrained features, joined with a matched filter; see `strategies.protocol.Strategy`."""

    name = "few_shot"
    summary = "pretrained U-Net, a linear head from the clicks in closed form, and matched filter: left-out clicks choose; no steps"
    model_kind = "unet"
    picker = "greedy"
    needs_prior = True
    learns_rejected = True  # clicks labelled 0
    sections: Mapping[str, type[Part]] = MappingProxyType({})
    defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType({"network": {"channels": CHANNELS}})

    def check(self, settings: LearningSettings) -> None:
        """Refuse settings without the backbone, or with channels other than the backbone's."""
        network = settings.network
        if network.backbone == "none":
            raise InputError(
                "network.backbone must be auto for few_shot, which needs the pretrained backbone, found none; or choose another objective (nnpu, average)"
            )
        if tuple(network.channels) != CHANNELS:
            raise InputError(
                f"network.channels of few_shot must be those of the pretrained backbone, {list(CHANNELS)}, found {list(network.channels)}; leave them out"
            )

    def reading_level(self, species: Iterable[Species], spacing: float, level: int | str) -> int:
        """Return the level asked for, or with `auto` the coarsest at which the smallest particle can still be seen."""
        return choose_level(species, spacing, level)

    def step_bytes(self, settings: LearningSettings) -> int | None:
        """Return None: training takes no steps."""
        return None

    def clicks_bytes(self, settings: LearningSettings) -> int:
        """Project the peak of judging the clicks, in bytes; 0 on a GPU, whose memory holds the features."""
        from tomostream.learn.precision import resolve_device
        from tomostream.strategies.unet.pretrained.seeing import seeing_bytes

        return seeing_bytes() if resolve_device(settings.device).type == "cpu" else 0

    def describe(self, settings: LearningSettings, level: int) -> str:
        """Describe training by strategy, level and the hash of the backbone."""
        return f"strategy {self.name}, level {level}, pretrained backbone {SHA256[:8]}"

    def fingerprint(self, settings: LearningSettings) -> Fingerprint:
        """Return the hash of the backbone, the settings of the network, and the seed."""
        return {"backbone": SHA256, "network": settings.network.model_dump(mode="json"), "train": settings.train.seed}

    def train(self, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
        """Train and write the model folder, in the first process alone."""
        from tomostream.strategies.few_shot.training import train_few_shot

        if folder is not None:
            train_few_shot(training, folder, progress)

    def untrained(self, settings: LearningSettings, spacing: float) -> Model:
        """Return a model with the backbone's shape and a filter of the sizes that training gives."""
        from dataclasses import replace

        from tomostream.strategies.model_folder import TrainingSummary
        from tomostream.strategies.unet.fusion import MatchedSettings
        from tomostream.strategies.unet.model import UNetModel
        from tomostream.strategies.unet.network import ResidualUNet
        from tomostream.strategies.unet.training import described_by

        level = self.reading_level(settings.species, spacing, settings.network.level)
        training = Training.planned(settings, level, spacing)
        radii = training.radii_vox
        supports = tuple(defaults.SUPPORT * radius for radius in radii)
        ones = (1.0,) * len(radii)
        matched = MatchedSettings(supports, defaults.MATCHED_FLOOR, ones, ones, defaults.MATCHED_SMOOTH * min(radii))
        profiles = tuple(np.cos(np.linspace(0, np.pi, 1 + math.floor(support))) for support in supports)
        network = ResidualUNet(CHANNELS, len(radii), seed=0).eval()
        return UNetModel(replace(described_by(training), matched=matched), TrainingSummary(), Path(), network, profiles)

    def load(self, record: ModelRecord, weights: bytes, folder: Path) -> Model:
        """Load a trained model."""
        from tomostream.strategies.unet.model import unpack

        return unpack(record, weights, folder)


STRATEGY = FewShotStrategy()
