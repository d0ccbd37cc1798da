"""A trained model of `average` or `template`: one array per species, and the scale of its correlations."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from tomostream.errors import InputError
from tomostream.strategies.array_model import ArrayModel
from tomostream.strategies.matched_filter.correlation import CorrelationScorer, Target
from tomostream.strategies.matched_filter.density import Wedge
from tomostream.strategies.matched_filter.kernels import density_target, padded_reader, profile_target, rotated_kernels
from tomostream.strategies.matched_filter.orienting import best_rotations
from tomostream.strategies.matched_filter.scale import Scale
from tomostream.strategies.model_folder import ModelSettings
from tomostream.tomogram import Tomogram


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelationSettings(ModelSettings):
    """How correlations are computed, and how they become logits."""

    support_vox: tuple[float, ...]  # radius of the ball that is compared, per species, voxels of the level
    floor: float  # of the local standard deviation, standard deviations of the volume
    scales: tuple[Scale, ...]  # one per species


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSettings(CorrelationSettings):
    """In addition, how a density is rotated."""

    angle_step: float  # degrees between orientations
    tilt_range: tuple[float, float]  # degrees
    tilt_axis: str  # x or y


@dataclass(frozen=True)
class CorrelationModel(ArrayModel):
    """A trained model; `arrays` are the kernels' sources, by the number of the species."""

    settings: CorrelationSettings
    picker = "greedy"

    @abstractmethod
    def target(self, number: int) -> Target:
        """Return the kernels of a species, before its scale is set."""

    @property
    def uses_gpu(self) -> bool:
        """It does not."""
        return False

    def scorer(self, *, device: str, precision: str, threads: int | None, gpu_memory: int | None = None) -> CorrelationScorer:
        """Return the model, ready to score blocks; it computes on the processor, in float32.  See `Model.scorer`."""
        if device not in ("auto", "cpu"):
            raise InputError(f"the strategy {self.kind} computes on the processor only; leave --device auto or cpu, found '{device}'")
        if precision != "float32":
            raise InputError(f"the strategy {self.kind} computes in float32 only; leave --precision float32, found '{precision}'")
        return CorrelationScorer(self._targets(), floor=self.settings.floor, threads=threads)

    def _targets(self) -> list[Target]:
        scales = self.settings.scales
        if len(scales) != len(self.settings.species):
            raise InputError(f"model folder {self.folder} is broken: {len(scales)} targets for {len(self.settings.species)} species")
        try:
            return [replace(self.target(number), offset=scale.offset, slope=scale.slope) for number, scale in enumerate(scales)]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"model folder {self.folder} is broken: {error!r}") from None


@dataclass(frozen=True)
class AverageModel(CorrelationModel):
    """The clicked particles' radial profile."""

    kind = "average"

    def target(self, number: int) -> Target:
        """Return the profile of a species."""
        return profile_target(self.arrays[str(number)].astype(np.float64), self.settings.support_vox[number])


@dataclass(frozen=True)
class TemplateModel(CorrelationModel):
    """A density in all orientations."""

    settings: TemplateSettings
    kind = "template"

    def target(self, number: int) -> Target:
        """Return the density of a species."""
        given = self.settings
        wedge = Wedge(*given.tilt_range, axis=given.tilt_axis)
        return density_target(self.arrays[str(number)], given.support_vox[number], angle_step=given.angle_step, wedge=wedge)

    def orientations(self, tomogram: Tomogram, places: np.ndarray, species: str, *, memory: int) -> np.ndarray:
        """Return how the particles at places are turned; see `Model.orientations`."""
        given, number = self.settings, self.settings.species.index(species)
        wedge = Wedge(*given.tilt_range, axis=given.tilt_axis)
        kernels = rotated_kernels(self.arrays[str(number)], given.support_vox[number], angle_step=given.angle_step, wedge=wedge)
        here = tomogram.at_level(given.level)
        half = int(np.floor(given.support_vox[number]))
        return best_rotations(kernels, half, padded_reader(here), here.to_level_positions(places), memory=memory)
