"""A trained model of the strategy `deepetpicker`: a `CoordinateUNet`'s weights, and the patches that it was made for.

DeepETPicker, built from the description in its paper: residual U-Net with coordinate channels and image pyramid
(`network`), labels of a ball's core (`label_radius`), Dice loss (`loss`), patches with a padding (`strategies.patches`), mean-pooling of the binarised
scores (`picking.mean_pool`).

References
----------
Liu et al. 2024, "DeepETPicker", Nature Communications 15, 2090.
"""

from __future__ import annotations

from dataclasses import dataclass

from tomostream import defaults
from tomostream.geometry import Triple, triple
from tomostream.inference.batch_statistics import Sampling
from tomostream.strategies.array_model import NetworkModel
from tomostream.strategies.deepetpicker.network import CoordinateUNet
from tomostream.strategies.model_folder import ModelSettings
from tomostream.strategies.patches import PatchScorer

KIND = "deepetpicker"
_LARGEST_LABEL_VOX = 5.0  # 11 voxels of diameter


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSettings(ModelSettings):
    """The network's shape and its patches."""

    channels: tuple[int, ...]  # of the levels, finest first
    patch: tuple[int, int, int]  # edges z y x, voxels of the level
    padding: int  # voxels on each side of a patch that are only looked at


@dataclass(frozen=True)
class PatchModel(NetworkModel[CoordinateUNet]):
    """A trained model."""

    settings: PatchSettings
    kind = KIND
    picker = "mean-pool"

    def make_network(self) -> CoordinateUNet:
        """Return a network of the settings' shape."""
        return CoordinateUNet(self.settings.channels, len(self.settings.species), seed=0)

    def scorer(self, *, device: str, precision: str, threads: int | None, gpu_memory: int | None = None) -> PatchScorer:
        """Return the model, ready to score blocks; see `Model.scorer`."""
        patch = triple(self.settings.patch)
        return PatchScorer(self.network, edge=patch, padding=self.settings.padding, device=device, precision=precision, threads=threads)

    @property
    def sampling(self) -> Sampling:
        """Patches, whose coordinates the network knows."""
        return patch_sampling(self.network, triple(self.settings.patch))


def label_radius(radius: float) -> float:
    """Radius of the label of a particle, voxels: a core of it, of 11 voxels' diameter at most, so that labels of touching particles don't."""
    return min(defaults.CORE_LABEL * radius, _LARGEST_LABEL_VOX)


def patch_sampling(network: CoordinateUNet, patch: Triple) -> Sampling:
    """Return the crops that a tomogram's batch-norm statistics come from: patches, whose coordinates the network knows."""
    return Sampling(patch, triple([network.stride] * 3), defaults.DEEPETPICKER_RECALIBRATION_CROPS, batch=2)
