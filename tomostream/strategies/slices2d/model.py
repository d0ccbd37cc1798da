"""A trained model of the strategy `slices2d`: the weights of a `SliceDetector`, and its channels.

The strategy works in two dimensions, like crYOLO: a single-shot detector finds boxes on x-y slices (`detector`, `single_shot`), and boxes are traced
through z (`picking.tracing`).  As in every strategy, a score map connects the two: boxes are painted as peaks (`painting`), from which picking
recovers them.

References
----------
Wagner et al. 2019, "SPHIRE-crYOLO is a fast and accurate fully automated particle picker for cryo-EM", Communications Biology 2, 218.
"""

from __future__ import annotations

from dataclasses import dataclass

from tomostream import defaults
from tomostream.inference.batch_statistics import Sampling
from tomostream.strategies.array_model import NetworkModel
from tomostream.strategies.model_folder import ModelSettings
from tomostream.strategies.slices2d.detector import SliceDetector
from tomostream.strategies.slices2d.scoring import SliceScorer

KIND = "slices2d"
_SLAB_SLICES = 8  # slices of a crop from which batch-norm statistics are measured, about the height of a label


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceSettings(ModelSettings):
    """Settings of a slice detector."""

    channels: tuple[int, ...]  # channels of the levels, finest first


@dataclass(frozen=True)
class SliceModel(NetworkModel[SliceDetector]):
    """A trained slice detector."""

    settings: SliceSettings
    kind = KIND
    picker = "trace"

    def make_network(self) -> SliceDetector:
        """Build a detector of the shape that the settings give."""
        return SliceDetector(self.settings.channels, len(self.settings.species), seed=0)

    def scorer(self, *, device: str, precision: str, threads: int | None, gpu_memory: int | None = None) -> SliceScorer:
        """Return the model, ready to score blocks; see `Model.scorer`."""
        radius = [r / (self.settings.spacing * 2**self.settings.level) for r in self.settings.radius_ang]
        return SliceScorer(self.network, radius=radius, device=device, precision=precision, threads=threads)

    @property
    def sampling(self) -> Sampling:
        """The crops from which the batch-norm statistics of a tomogram are measured."""
        return slice_sampling(self.network)


def slice_sampling(network: SliceDetector) -> Sampling:
    """Return the crops from which the batch-norm statistics of a tomogram are measured: slabs of a few slices."""
    edge = -(-defaults.SLICES2D_CROP_VOX // network.stride) * network.stride
    return Sampling((_SLAB_SLICES, edge, edge), (1, network.stride, network.stride))
