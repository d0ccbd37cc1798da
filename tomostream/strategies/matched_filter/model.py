"""Trained models of `average`, `sphere` and `template`: an array per species, from which kernels are made, and the scale of its correlations."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.strategies.array_model import ArrayModel
from tomostream.strategies.matched_filter.correlation import CorrelationScorer, Target
from tomostream.strategies.matched_filter.density import Wedge
from tomostream.strategies.matched_filter.kernels import density_target, padded_reader, profile_target, rotated_kernels, tensor_target
from tomostream.strategies.matched_filter.orienting import best_rotations
from tomostream.strategies.matched_filter.scale import Scale
from tomostream.strategies.matched_filter.settings import SEARCHES
from tomostream.strategies.model_folder import ModelSettings
from tomostream.tomogram import Tomogram


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelationSettings(ModelSettings):
    """Settings of the correlation, and of the scale that turns correlations into logits."""

    support_vox: tuple[float, ...]  # radius of the ball that is correlated, per species, voxels of the level
    floor: float  # floor of the local standard deviation, in standard deviations of the volume; see `correlation`
    scales: tuple[Scale, ...]  # one per species


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSettings(CorrelationSettings):
    """Settings of the correlation with a rotated density."""

    angle_step: float  # degrees between neighbouring orientations
    tilt_range: tuple[float, float]  # first and last tilt, degrees
    tilt_axis: str  # x or y
    search: str = defaults.TEMPLATE_SEARCH  # rotations or tensor; the kernels of the latter are among the arrays


def tensor_name(number: int) -> str:
    """Return the name of the array with the 35 kernels of a species (`tensorial`)."""
    return f"tensor{number}"


@dataclass(frozen=True)
class CorrelationModel(ArrayModel):
    """A model that scores by correlation; `arrays` holds a profile or density per species, by the index of the species."""

    settings: CorrelationSettings
    picker = "greedy"

    @abstractmethod
    def target(self, number: int) -> Target:
        """Return the kernels of a species; `scorer` sets their scale."""

    @property
    def uses_gpu(self) -> bool:
        """False: correlations are computed on the CPU."""
        return False

    def scorer(self, *, device: str, precision: str, threads: int | None, gpu_memory: int | None = None) -> CorrelationScorer:
        """Return the model, ready to score blocks on the CPU in float32; see `Model.scorer`."""
        if device not in ("auto", "cpu"):
            raise InputError(f"the strategy {self.kind} computes on the processor only: --device must be auto or cpu, found '{device}'")
        if precision != "float32":
            raise InputError(f"the strategy {self.kind} computes in float32 only: --precision must be float32, found '{precision}'")
        return CorrelationScorer(self._targets(), floor=self.settings.floor, threads=threads)

    def _targets(self) -> list[Target]:
        """Return the target of each species with its scale; broken arrays are an InputError."""
        scales = self.settings.scales
        if len(scales) != len(self.settings.species):
            raise InputError(f"model folder {self.folder} is broken: {len(scales)} scales for {len(self.settings.species)} species")
        try:
            return [replace(self.target(number), offset=scale.offset, slope=scale.slope) for number, scale in enumerate(scales)]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"model folder {self.folder} is broken: {error!r}") from None


@dataclass(frozen=True)
class AverageModel(CorrelationModel):
    """A model that correlates with a radial profile."""

    kind = "average"

    def target(self, number: int) -> Target:
        """Return the kernel of a species' profile."""
        return profile_target(self.arrays[str(number)].astype(np.float64), self.settings.support_vox[number])


@dataclass(frozen=True)
class TemplateModel(CorrelationModel):
    """A model that correlates with a density in all orientations."""

    settings: TemplateSettings
    kind = "template"

    def target(self, number: int) -> Target:
        """Return the kernels of a species' density: one per orientation, or those that stand for all."""
        given = self.settings
        if given.search not in SEARCHES:
            raise ValueError(f"search '{given.search}' is not one of {', '.join(SEARCHES)}")
        if given.search == "tensor":
            return tensor_target(self.arrays[tensor_name(number)], given.support_vox[number])
        wedge = Wedge(*given.tilt_range, axis=given.tilt_axis)
        return density_target(self.arrays[str(number)], given.support_vox[number], angle_step=given.angle_step, wedge=wedge)

    def orientations(self, tomogram: Tomogram, places: np.ndarray, species: str, *, memory: int) -> np.ndarray:
        """Return the orientation of the best kernel at each place; see `Model.orientations`."""
        given, number = self.settings, self.settings.species.index(species)
        wedge = Wedge(*given.tilt_range, axis=given.tilt_axis)
        kernels = rotated_kernels(self.arrays[str(number)], given.support_vox[number], angle_step=given.angle_step, wedge=wedge)
        here = tomogram.at_level(given.level)
        half = int(np.floor(given.support_vox[number]))
        return best_rotations(kernels, half, padded_reader(here), here.to_level_positions(places), memory=memory)
