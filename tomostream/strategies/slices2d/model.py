"""A trained model of the strategy `slices2d`: a `SliceDetector`'s weights, and the channels that it is built from.

The strategy works in two dimensions, in the way of crYOLO: a single-shot detector of boxes on x-y slices
(`detector`, `single_shot`), and boxes traced through z (`picking.tracing`).  Between them stands a score map, as for every strategy: boxes are
painted as peaks (`painting`), which picking finds again.

References
----------
Wagner et al. 2019, "SPHIRE-crYOLO is a fast and accurate fully automated particle picker for cryo-EM", Communications Biology 2, 218.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from tomostream import defaults
from tomostream.geometry import Triple
from tomostream.inference.batch_statistics import Sampling
from tomostream.inference.block_search import plan_scorer
from tomostream.inference.plan import MAX_SHARD_VOX, PredictionPlan
from tomostream.strategies.model_folder import ModelRecord, ModelSettings, settings_of, unpack_arrays
from tomostream.strategies.network_arrays import with_arrays
from tomostream.strategies.protocol import Model
from tomostream.strategies.slices2d.detector import SliceDetector
from tomostream.strategies.slices2d.scoring import SliceScorer

KIND = "slices2d"
_SLAB_SLICES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceSettings(ModelSettings):
    """The network's shape."""

    channels: tuple[int, ...]  # of the levels, finest first


@dataclass(frozen=True)  # no slots: the network is made once
class SliceModel(Model):
    """A trained model; `arrays` are the detector's weights and batch statistics."""

    settings: SliceSettings
    arrays: Mapping[str, np.ndarray]
    kind = KIND
    picker = "trace"

    @cached_property
    def network(self) -> SliceDetector:
        """The detector, in evaluation mode."""
        return with_arrays(SliceDetector(self.settings.channels, len(self.settings.species), seed=0), self.arrays, self.folder)

    def scorer(self, *, device: str, precision: str, threads: int | None, gpu_memory: int | None = None) -> SliceScorer:
        """Return the model, ready to score blocks; see `Model.scorer`."""
        radius = [r / (self.settings.spacing * 2**self.settings.level) for r in self.settings.radius_ang]
        return SliceScorer(self.network, radius=radius, device=device, precision=precision, threads=threads)

    def plan(
        self, volume: Triple, *, precision: str, memory: int, block_size: Triple | None, name: str, max_edge: int | None = None
    ) -> PredictionPlan:
        """Plan the blocks in which a volume is scored; see `Model.plan`."""
        scorer, longest = self.scorer(device="cpu", precision=precision, threads=None), max_edge or MAX_SHARD_VOX
        level = self.settings.level
        return plan_scorer(volume, level=level, scorer=scorer, memory=memory, block_size=block_size, name=name, max_edge=longest)

    @property
    def sampled(self) -> tuple[SliceDetector, Sampling]:
        """The detector, and the crops that its batch-norm statistics come from."""
        return self.network, slice_sampling(self.network)

    def with_statistics(self, statistics: Mapping[str, np.ndarray]) -> SliceModel:
        """Return the model with other batch-norm statistics."""
        return replace(self, arrays={**self.arrays, **statistics})


def unpack(record: ModelRecord, weights: bytes, folder: Path) -> SliceModel:
    """Return a model from what its folder holds.

    Raises
    ------
    InputError
        If the settings are broken, or the arrays can't be read.
    """
    return SliceModel(settings_of(record, SliceSettings, folder), record.summary, folder, unpack_arrays(weights, folder))


def slice_sampling(network: SliceDetector) -> Sampling:
    """Return the crops that a tomogram's batch-norm statistics come from: some slices of the height of a label or so."""
    edge = -(-defaults.SLICES2D_CROP_VOX // network.stride) * network.stride
    return Sampling((_SLAB_SLICES, edge, edge), (1, network.stride, network.stride))
