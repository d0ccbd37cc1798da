"""A trained model of the strategy `deepetpicker`: the weights of a `CoordinateUNet`, and the patches that it was trained for.

The strategy follows the description of DeepETPicker in its paper: a residual U-Net with coordinate channels and an image pyramid (`network`), labels
that cover the core of a particle (`label_radius`), the Dice loss (`loss`), patches with padding (`strategies.patches`), and mean-pooling of the
binarised scores (`picking.mean_pool`).

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
_LARGEST_LABEL_VOX = 5.0  # a diameter of 11 voxels


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSettings(ModelSettings):
    """Settings of the network and its patches."""

    channels: tuple[int, ...]  # channels of the levels, finest first
    patch: tuple[int, int, int]  # edges of a patch z y x, voxels of the level
    padding: int  # voxels on each side of a patch that serve only as context


@dataclass(frozen=True)
class PatchModel(NetworkModel[CoordinateUNet]):
    """A trained `CoordinateUNet`."""

    settings: PatchSettings
    kind = KIND
    picker = "mean-pool"

    def make_network(self) -> CoordinateUNet:
        """Build a network of the shape that the settings give."""
        return CoordinateUNet(self.settings.channels, len(self.settings.species), seed=0)

    def scorer(self, *, device: str, precision: str, threads: int | None, gpu_memory: int | None = None) -> PatchScorer:
        """Return the model, ready to score blocks; see `Model.scorer`."""
        patch = triple(self.settings.patch)
        return PatchScorer(self.network, edge=patch, padding=self.settings.padding, device=device, precision=precision, threads=threads)

    @property
    def sampling(self) -> Sampling:
        """The crops from which the batch-norm statistics of a tomogram are measured."""
        return patch_sampling(self.network, triple(self.settings.patch))


def label_radius(radius: float) -> float:
    """Return the radius of the label of a particle, in voxels.

    A label covers the core of the particle, with a diameter of at most 11 voxels, so that the labels of touching particles don't touch.
    """
    return min(defaults.CORE_LABEL * radius, _LARGEST_LABEL_VOX)


def patch_sampling(network: CoordinateUNet, patch: Triple) -> Sampling:
    """Return the crops from which the batch-norm statistics of a tomogram are measured: patches, since outputs depend on coordinates in a patch."""
    return Sampling(patch, triple([network.stride] * 3), defaults.DEEPETPICKER_RECALIBRATION_CROPS, batch=2)
