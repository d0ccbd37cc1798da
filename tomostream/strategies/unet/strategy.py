"""The default strategy: a residual U-Net, trained with an objective for unlabelled voxels and joined with a matched filter.

There is one strategy per objective.  Another package adds one with an entry point to an object such as

    STRATEGY = UNetStrategy("focal", "my_package.focal:OBJECTIVE", "focal loss", needs_prior=False)

where OBJECTIVE is a `learn.objectives.Kind`.  Importing this module does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.config.configuration import LearningSettings
from tomostream.config.fields import Part
from tomostream.fingerprint import Fingerprint
from tomostream.progress import Progress
from tomostream.strategies.network_strategy import NetworkStrategy
from tomostream.strategies.training_set import Training
from tomostream.strategies.unet.gathering import takes_backbone
from tomostream.strategies.unet.pretrained.settings import SHA256
from tomostream.strategies.unet.settings import MatchedFilter
from tomostream.strategies.unet.starting import checked_start

if TYPE_CHECKING:
    from tomostream.learn.processes import Processes
    from tomostream.strategies.model_folder import ModelRecord
    from tomostream.strategies.protocol import Model

# of all levels at the peak of a step, per voxel of a crop and channel of the finest level; just above the measured peaks
_STEP_BYTES = {"float32": 76, "bf16": 52}
_KEPT_BYTES = 120_000_000  # memory that the libraries keep after the clicks have been judged; just above the measured amounts


class UNetStrategy(NetworkStrategy):
    """A U-Net trained with one objective; see `strategies.protocol.Strategy`.

    Parameters
    ----------
    name
        The value of `objective.name` that selects the strategy.
    objective
        Import path of the objective's `learn.objectives.Kind`, as `module:object`.
    summary
        One line of description.
    needs_prior
        Whether the objective needs the number of particles.
    """

    model_kind = "unet"
    continues = True  # `train.start`
    learns_rejected = True  # clicks labelled 0
    sizes_are_learnt = True  # left-out clicks decide whether the pretrained network is joined to the trained one
    picker = "greedy"
    sections: Mapping[str, type[Part]] = MappingProxyType({"matched_filter": MatchedFilter})

    def __init__(self, name: str, objective: str, summary: str, *, needs_prior: bool) -> None:
        self.name, self.summary, self.needs_prior = name, summary, needs_prior
        self._objective = objective

    def step_bytes(self, settings: LearningSettings) -> int | None:
        """Project the larger of a training step and of judging the clicks before it, in bytes; 0 on a GPU, whose memory holds both."""
        from tomostream.strategies.unet.pretrained.seeing import seeing_bytes

        precision, train = self.precision_on_cpu(settings), settings.train
        if precision is None:
            return 0
        step = _STEP_BYTES[precision] * settings.network.channels[0] * train.batch * train.crop**3
        return max(step + _KEPT_BYTES, seeing_bytes()) if takes_backbone(settings) else step

    def fingerprint(self, settings: LearningSettings) -> Fingerprint:
        """Return all settings of network, training and filter, and the hashes of the start model's and the backbone's weights if used."""
        values = super().fingerprint(settings)
        if settings.train.start is not None:  # the weights matter, not where the model lies
            values["start"] = checked_start(settings).weights_sha256
        if takes_backbone(settings):
            values["pretrained"] = SHA256
        if settings.train.pasted:
            values["pasted"] = settings.train.pasted
        if settings.section(MatchedFilter).look_alikes == defaults.LOOK_ALIKES:  # a training of before it was there counts as done
            del values["matched_filter"]["look_alikes"]
        return values

    def train(self, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
        """Train and write the model folder."""
        from tomostream.strategies.unet.training import train_unet

        train_unet(self._objective, training, folder, progress, processes)

    def untrained(self, settings: LearningSettings, spacing: float) -> Model:
        """Return a model of the largest size that training may produce; the pretrained network is included if it may be joined."""
        from dataclasses import replace

        from tomostream.inference.face_noise import FaceNoise
        from tomostream.strategies.model_folder import TrainingSummary
        from tomostream.strategies.unet.fusion import MatchedSettings
        from tomostream.strategies.unet.joined_channels import joined_channels
        from tomostream.strategies.unet.lookalikes import LookAlikes
        from tomostream.strategies.unet.model import UNetModel
        from tomostream.strategies.unet.network import ResidualUNet
        from tomostream.strategies.unet.pretrained.settings import CHANNELS
        from tomostream.strategies.unet.training import described_by

        level = self.reading_level(settings.species, spacing, settings.network.level)
        training = Training.planned(settings, level, spacing)
        given, radii = settings.section(MatchedFilter), training.radii_vox
        described = described_by(training)
        if given.weight == 0:
            return UNetModel(described, TrainingSummary(), Path(), ResidualUNet(described.channels, len(radii), seed=0).eval())
        if takes_backbone(settings):
            described = replace(described, channels=joined_channels(described.channels, CHANNELS), learnt_channels=described.channels)
        network = ResidualUNet(described.channels, len(radii), seed=0).eval()
        supports = tuple(defaults.SUPPORT * radius for radius in radii)
        ones = (1.0,) * len(radii)
        matched = MatchedSettings(supports, defaults.MATCHED_FLOOR, ones, ones, given.smooth * min(radii))
        faces = FaceNoise.of_radii(radii, [0.0] * len(radii))
        profiles = tuple(np.cos(np.linspace(0, np.pi, 1 + math.floor(support))) for support in supports)
        lookalikes = LookAlikes.planned(supports) if given.look_alikes > 0 else None
        described = replace(described, matched=matched, faces=faces, lookalikes=lookalikes)
        return UNetModel(described, TrainingSummary(), Path(), network, profiles)

    def load(self, record: ModelRecord, weights: bytes, folder: Path) -> Model:
        """Load a trained model."""
        from tomostream.strategies.unet.model import unpack

        return unpack(record, weights, folder)


_KINDS = "tomostream.learn.objectives"
PN = UNetStrategy("pn", f"{_KINDS}.pn:OBJECTIVE", "U-Net; every unlabelled voxel counts as background", needs_prior=False)
NNPU = UNetStrategy(
    "nnpu", f"{_KINDS}.nnpu:OBJECTIVE", "U-Net; non-negative positive-unlabelled risk (Kiryo et al. 2017)", needs_prior=True
)
KL = UNetStrategy(
    "kl", f"{_KINDS}.kl:OBJECTIVE", "U-Net; the unlabelled voxels' mean score is pulled to the prior (Topaz's GE-KL)", needs_prior=True
)
GE_BINOMIAL = UNetStrategy(
    "ge_binomial",
    f"{_KINDS}.ge_binomial:OBJECTIVE",
    "U-Net; the number of particles follows a binomial (Topaz's GE-binomial)",
    needs_prior=True,
)
