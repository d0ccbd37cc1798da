"""The strategies `average` and `template`; importing them does not import torch."""

from __future__ import annotations

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
from tomostream.remote.hashing import file_sha256
from tomostream.strategies.matched_filter.settings import COARSEST_TENSOR_DEG, Template
from tomostream.strategies.reading_level import choose_level
from tomostream.strategies.training_set import Training

if TYPE_CHECKING:
    from tomostream.learn.processes import Processes
    from tomostream.strategies.matched_filter.scale import Scale
    from tomostream.strategies.model_folder import ModelRecord
    from tomostream.strategies.protocol import Model


def _check_device(name: str, settings: LearningSettings) -> None:
    if settings.device == "cuda" or settings.precision != "float32":
        raise InputError(
            f"objective {name} computes on the processor, in float32: predict.device must be auto or cpu and predict.precision "
            f"float32, found {settings.device} and {settings.precision}"
        )


def _sketched(settings: LearningSettings, spacing: float, level: int) -> tuple[Training, list[Scale]]:
    """Return a training without tomograms and arbitrary scales, to make a model for planning."""
    from tomostream.strategies.matched_filter.scale import Scale

    return Training.planned(settings, level, spacing), [Scale(clicks=1.0, background=0.0)] * len(settings.species)


class AverageStrategy:
    """A matched filter with the rotational average of the clicks; see `strategies.protocol.Strategy`."""

    name = "average"
    summary = "matched filter: the clicks' rotational average; no network, seconds"
    model_kind = "average"
    picker = "greedy"
    needs_prior = False
    sections: Mapping[str, type[Part]] = MappingProxyType({})
    defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    def check(self, settings: LearningSettings) -> None:
        """Refuse devices other than the CPU, and precisions other than float32."""
        _check_device(self.name, settings)

    def reading_level(self, species: Iterable[Species], spacing: float, level: int | str) -> int:
        """Return the level asked for, or with `auto` level 0: unlike networks, the average suffers from binning, and it is fast at level 0."""
        return 0 if level == "auto" else int(level)

    def step_bytes(self, settings: LearningSettings) -> int | None:
        """Return None: training takes no steps."""
        return None

    def describe(self, settings: LearningSettings, level: int) -> str:
        """Describe training by strategy and level."""
        return f"strategy {self.name}, level {level}"

    def fingerprint(self, settings: LearningSettings) -> Fingerprint:
        """Return the level asked for, and the seed."""
        return {"network": settings.network.level, "train": settings.train.seed}

    def train(self, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
        """Train and write the model folder, in the first process alone."""
        from tomostream.strategies.matched_filter.training import train_average

        if folder is not None:
            train_average(training, folder, progress)

    def untrained(self, settings: LearningSettings, spacing: float) -> Model:
        """Return a model with an arbitrary profile of the right length."""
        from tomostream.strategies.matched_filter.model import AverageModel
        from tomostream.strategies.matched_filter.training import average_settings
        from tomostream.strategies.model_folder import TrainingSummary

        level = self.reading_level(settings.species, spacing, settings.network.level)
        training, scales = _sketched(settings, spacing, level)
        described = average_settings(training, scales)
        arrays = {str(number): np.cos(np.linspace(0, np.pi, 1 + int(support))) for number, support in enumerate(described.support_vox)}
        return AverageModel(described, TrainingSummary(), Path(), arrays)

    def load(self, record: ModelRecord, weights: bytes, folder: Path) -> Model:
        """Load a trained model."""
        from tomostream.strategies.array_model import unpack
        from tomostream.strategies.matched_filter.model import AverageModel, CorrelationSettings

        return unpack(AverageModel, CorrelationSettings, record, weights, folder)


class TemplateStrategy:
    """Template matching with a known density in all orientations; see `strategies.protocol.Strategy`."""

    name = "template"
    summary = "template matching: a known density in all orientations, with the missing wedge"
    model_kind = "template"
    picker = "greedy"
    needs_prior = False
    orients = True  # `TemplateModel.orientations`
    sections: Mapping[str, type[Part]] = MappingProxyType({"template": Template})
    defaults: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    def check(self, settings: LearningSettings) -> None:
        """Refuse species without a density, devices other than the CPU, and precisions other than float32."""
        given = settings.section(Template)
        lacking = [s.name for s in settings.species if given.density_of(s.name) is None]
        if lacking:
            raise InputError(f"template.density is missing for {', '.join(lacking)}: give the MRC file of the particle's density")
        if len(settings.species) > 1 and not isinstance(given.density, dict):
            raise InputError("template.density must name a file for each species: `density: {NAME: FILE, ...}`")
        if given.search == "tensor" and given.angle_step > COARSEST_TENSOR_DEG:
            raise InputError(
                f"template.search: tensor needs template.angle_step of at most {COARSEST_TENSOR_DEG:g} degrees, found {given.angle_step:g}: "
                "its 35 kernels are fitted to the density in all orientations"
            )
        _check_device(self.name, settings)

    def reading_level(self, species: Iterable[Species], spacing: float, level: int | str) -> int:
        """Return the level asked for, or with `auto` the coarsest at which the smallest particle can still be seen."""
        return choose_level(species, spacing, level)

    def step_bytes(self, settings: LearningSettings) -> int | None:
        """Return None: training takes no steps."""
        return None

    def describe(self, settings: LearningSettings, level: int) -> str:
        """Describe training by strategy and level."""
        return f"strategy {self.name}, level {level}"

    def fingerprint(self, settings: LearningSettings) -> Fingerprint:
        """Return the level asked for, the seed, and the section `template`, with the hashes of the density files in place of their paths."""
        given = settings.section(Template)
        densities = {s.name: given.density_of(s.name) for s in settings.species}
        hashes = {name: _density_sha256(path) for name, path in densities.items() if path is not None}
        template = given.model_dump(mode="json") | {"density": hashes}
        if given.search == defaults.TEMPLATE_SEARCH:  # a training of before it was there counts as done
            del template["search"]
        return {"network": settings.network.level, "train": settings.train.seed, "template": template}

    def train(self, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
        """Train and write the model folder, in the first process alone."""
        from tomostream.strategies.matched_filter.training import train_template

        if folder is not None:
            train_template(training, folder, progress)

    def untrained(self, settings: LearningSettings, spacing: float) -> Model:
        """Return a model with the given densities and an arbitrary scale."""
        from tomostream.strategies.matched_filter.kernels import planned_tensor
        from tomostream.strategies.matched_filter.model import TemplateModel, tensor_name
        from tomostream.strategies.matched_filter.training import prepared_density, template_settings
        from tomostream.strategies.model_folder import TrainingSummary

        level = self.reading_level(settings.species, spacing, settings.network.level)
        training, scales = _sketched(settings, spacing, level)
        described = template_settings(training, scales)
        arrays = {str(number): prepared_density(training, number, radius) for number, radius in enumerate(training.radii_vox)}
        if described.search == "tensor":
            arrays |= {tensor_name(number): planned_tensor(support) for number, support in enumerate(described.support_vox)}
        return TemplateModel(described, TrainingSummary(), Path(), arrays)

    def load(self, record: ModelRecord, weights: bytes, folder: Path) -> Model:
        """Load a trained model."""
        from tomostream.strategies.array_model import unpack
        from tomostream.strategies.matched_filter.model import TemplateModel, TemplateSettings

        return unpack(TemplateModel, TemplateSettings, record, weights, folder)


def _density_sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise InputError(f"template.density {path} can't be read: {error.strerror or error}") from None


AVERAGE = AverageStrategy()
TEMPLATE = TemplateStrategy()
