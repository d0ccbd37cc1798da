"""A trained model of the strategy `deepetpicker`: a `CoordinateUNet`'s weights, and the patches that it was made for.

DeepETPicker, built from the description in its paper: residual U-Net with coordinate channels and image pyramid
(`network`), labels of a ball's core (`label_radius`), Dice loss (`loss`), patches with a padding (`patches`), mean-pooling of the binarised
scores (`picking.mean_pool`).

References
----------
Liu et al. 2024, "DeepETPicker", Nature Communications 15, 2090.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from tomostream import defaults
from tomostream.geometry import Triple, triple
from tomostream.inference.batch_statistics import Sampling
from tomostream.inference.block_search import plan_scorer
from tomostream.inference.plan import MAX_SHARD_VOX, PredictionPlan
from tomostream.strategies.deepetpicker.network import CoordinateUNet
from tomostream.strategies.deepetpicker.patches import PatchScorer
from tomostream.strategies.model_folder import ModelRecord, ModelSettings, settings_of, unpack_arrays
from tomostream.strategies.network_arrays import with_arrays
from tomostream.strategies.protocol import Model

KIND = "deepetpicker"
_LARGEST_LABEL_VOX = 5.0  # 11 voxels of diameter


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSettings(ModelSettings):
    """The network's shape and its patches."""

    channels: tuple[int, ...]  # of the levels, finest first
    patch: tuple[int, int, int]  # edges z y x, voxels of the level
    padding: int  # voxels on each side of a patch that are only looked at


@dataclass(frozen=True)  # no slots: the network is made once
class PatchModel(Model):
    """A trained model; `arrays` are the network's weights and batch statistics."""

    settings: PatchSettings
    arrays: Mapping[str, np.ndarray]
    kind = KIND
    picker = "mean-pool"

    @cached_property
    def network(self) -> CoordinateUNet:
        """The network, in evaluation mode."""
        return with_arrays(CoordinateUNet(self.settings.channels, len(self.settings.species), seed=0), self.arrays, self.folder)

    def scorer(self, *, device: str, precision: str, threads: int | None, gpu_memory: int | None = None) -> PatchScorer:
        """Return the model, ready to score blocks; see `Model.scorer`."""
        patch = triple(self.settings.patch)
        return PatchScorer(self.network, edge=patch, padding=self.settings.padding, device=device, precision=precision, threads=threads)

    def plan(
        self, volume: Triple, *, precision: str, memory: int, block_size: Triple | None, name: str, max_edge: int | None = None
    ) -> PredictionPlan:
        """Plan the blocks in which a volume is scored; see `Model.plan`."""
        scorer, longest = self.scorer(device="cpu", precision=precision, threads=None), max_edge or MAX_SHARD_VOX
        level = self.settings.level
        return plan_scorer(volume, level=level, scorer=scorer, memory=memory, block_size=block_size, name=name, max_edge=longest)

    @property
    def sampled(self) -> tuple[CoordinateUNet, Sampling]:
        """The network, and the crops that its batch-norm statistics come from."""
        return self.network, patch_sampling(self.network, triple(self.settings.patch))

    def with_statistics(self, statistics: Mapping[str, np.ndarray]) -> PatchModel:
        """Return the model with other batch-norm statistics."""
        return replace(self, arrays={**self.arrays, **statistics})


def unpack(record: ModelRecord, weights: bytes, folder: Path) -> PatchModel:
    """Return a model from what its folder holds.

    Raises
    ------
    InputError
        If the settings are broken, or the arrays can't be read.
    """
    return PatchModel(settings_of(record, PatchSettings, folder), record.summary, folder, unpack_arrays(weights, folder))


def label_radius(radius: float) -> float:
    """Radius of the label of a particle, voxels: a core of it, of 11 voxels' diameter at most, so that labels of touching particles don't."""
    return min(defaults.CORE_LABEL * radius, _LARGEST_LABEL_VOX)


def patch_sampling(network: CoordinateUNet, patch: Triple) -> Sampling:
    """Return the crops that a tomogram's batch-norm statistics come from: patches, whose coordinates the network knows."""
    return Sampling(patch, triple([network.stride] * 3), defaults.DEEPETPICKER_RECALIBRATION_CROPS, batch=2)
