"""A trained model of the strategy `slices2d`: a `SliceDetector`'s weights, and the channels that it is built from.

The strategy works in two dimensions, in the way of crYOLO: a single-shot detector of boxes on x-y slices
(`detector`, `single_shot`), and boxes traced through z (`picking.tracing`).  Between them stands a score map, as for every strategy: boxes are
painted as peaks (`painting`), which picking finds again.

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
_SLAB_SLICES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceSettings(ModelSettings):
    """The network's shape."""

    channels: tuple[int, ...]  # of the levels, finest first


@dataclass(frozen=True)
class SliceModel(NetworkModel[SliceDetector]):
    """A trained model."""

    settings: SliceSettings
    kind = KIND
    picker = "trace"

    def make_network(self) -> SliceDetector:
        """Return a detector of the settings' shape."""
        return SliceDetector(self.settings.channels, len(self.settings.species), seed=0)

    def scorer(self, *, device: str, precision: str, threads: int | None, gpu_memory: int | None = None) -> SliceScorer:
        """Return the model, ready to score blocks; see `Model.scorer`."""
        radius = [r / (self.settings.spacing * 2**self.settings.level) for r in self.settings.radius_ang]
        return SliceScorer(self.network, radius=radius, device=device, precision=precision, threads=threads)

    @property
    def sampling(self) -> Sampling:
        """Some slices of the height of a label or so."""
        return slice_sampling(self.network)


def slice_sampling(network: SliceDetector) -> Sampling:
    """Return the crops that a tomogram's batch-norm statistics come from: some slices of the height of a label or so."""
    edge = -(-defaults.SLICES2D_CROP_VOX // network.stride) * network.stride
    return Sampling((_SLAB_SLICES, edge, edge), (1, network.stride, network.stride))
