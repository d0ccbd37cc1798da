"""Several models in one folder: one model per species, each with its own pyramid level and its own training.

A small particle needs a finer pyramid level than a large one, and one small network for all species finds fewer of each than a network for each
(docs/measurements.md, "Several species").  So a training with several species makes a model for each of them, and packs them into one folder:
`model.safetensors` holds the arrays of all, and `model.json` their records.  Score maps are made model by model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from tomostream.errors import InputError
from tomostream.remote.places import Place
from tomostream.strategies.model_folder import (
    SETTINGS_NAME,
    ModelRecord,
    ModelSettings,
    TrainingSummary,
    general_settings,
    read_folder,
    record_text,
    repack_arrays,
    settings_of,
    unpack_arrays,
    write_folder,
)
from tomostream.strategies.protocol import Model

if TYPE_CHECKING:
    from tomostream.inference.protocol import BlockScorer
    from tomostream.tomogram import Tomogram

KIND = "several"
_PER_SPECIES = (  # fields of a summary that are lists with one entry per species
    "expected_numbers",
    "labelled_fraction",
    "expected_fraction",
    "label_radius_vox",
    "chosen_ways",
    "look_alikes",
    "left_out_ranks",
    "evidence",
    "clicks",
    "clicked",
    "rejected",
    "rejected_fraction",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeveralSettings(ModelSettings):
    """Settings of several models; `level` is the finest of their levels."""

    parts: tuple[dict[str, Any], ...]  # strategy, settings and summary of each, one species after the other


@dataclass(frozen=True)
class SeveralModels(Model):
    """One model per species.

    Parameters
    ----------
    parts
        The models, in the order of the species.
    """

    settings: SeveralSettings
    parts: tuple[Model, ...]
    kind = KIND

    @property
    def picker(self) -> str:
        """Name of the picker for its scores."""
        return self.parts[0].picker

    @property
    def uses_gpu(self) -> bool:
        """Whether the models can score on a GPU."""
        return all(part.uses_gpu for part in self.parts)

    def of(self, species: str) -> Model:
        """Return the model of a species."""
        return self.parts[self.settings.species.index(species)]

    def scorer(self, *, device: str, precision: str, threads: int | None, gpu_memory: int | None = None) -> BlockScorer:
        """Refuse: each model has a scorer of its own."""
        raise TypeError("several models score one after the other: use `parts`")

    def orientations(self, tomogram: Tomogram, places: np.ndarray, species: str, *, memory: int) -> np.ndarray:
        """Return the orientations of particles of a species; see `Model.orientations`."""
        return self.of(species).orientations(tomogram, places, species, memory=memory)


def parts_of(model: Model) -> tuple[Model, ...]:
    """Return the models that score one after the other: those of `SeveralModels`, or the model itself."""
    return model.parts if isinstance(model, SeveralModels) else (model,)


def pack(folder: Path, parts: Sequence[Path]) -> None:
    """Write a model folder that holds the models of other folders, in their order.

    Raises
    ------
    InputError
        If a model can't be read, or the folder can't be written.
    """
    arrays: dict[str, np.ndarray] = {}
    records: list[ModelRecord] = []
    for number, part in enumerate(parts):
        record, weights = read_folder(part)
        arrays |= {f"{number}.{name}": value for name, value in unpack_arrays(weights, part).items()}
        records.append(record)
    plain = [general_settings(record, part) for record, part in zip(records, parts, strict=True)]
    first = plain[0]
    settings = SeveralSettings(
        species=tuple(chain.from_iterable(one.species for one in plain)),
        radius_ang=tuple(chain.from_iterable(one.radius_ang for one in plain)),
        level=min(one.level for one in plain),
        spacing=first.spacing,
        clip_sigma=first.clip_sigma,
        trained_on=tuple(dict.fromkeys(chain.from_iterable(one.trained_on for one in plain))),
        version=first.version,
        batch_statistics=first.batch_statistics,
        normalisation=first.normalisation,
        parts=tuple(
            {"strategy": one.strategy, "settings": one.settings, "summary": one.summary.model_dump(exclude_none=True)} for one in records
        ),
    )
    write_folder(folder, KIND, repack_arrays(arrays), settings, _summary([one.summary for one in records]))


def unpack(record: ModelRecord, weights: bytes, folder: Path, load: Callable[[ModelRecord, bytes, Path], Model]) -> SeveralModels:
    """Build several models from the content of their folder.

    Parameters
    ----------
    load
        Loads a model from its record and weights.

    Raises
    ------
    InputError
        If the record and the weights don't belong together.
    """
    settings = settings_of(record, SeveralSettings, folder)
    parts = [load(*one, folder) for one in contents(record, weights, folder)]
    return SeveralModels(settings, record.summary, folder, tuple(parts))


def contents(record: ModelRecord, weights: bytes, folder: Path) -> list[tuple[ModelRecord, bytes]]:
    """Return record and weights of each model in a folder: of several, or of the one.

    Raises
    ------
    InputError
        If a record or the weights are broken.
    """
    if record.strategy != KIND:
        return [(record, weights)]
    records = records_in(record, folder)
    own: list[dict[str, np.ndarray]] = [{} for _ in records]
    for name, value in unpack_arrays(weights, folder).items():
        number, _, rest = name.partition(".")
        if not number.isdecimal() or int(number[:9]) >= len(own):
            raise InputError(f"model folder {folder} is broken: array {name[:60]!r} belongs to none of its {len(own)} models")
        own[int(number)][rest] = value
    return [(one, repack_arrays(arrays)) for one, arrays in zip(records, own, strict=True)]


def records_in(record: ModelRecord, folder: Place) -> list[ModelRecord]:
    """Return the records of the models in a folder: of several, or the record itself.

    Raises
    ------
    InputError
        If one is broken.
    """
    if record.strategy != KIND:
        return [record]
    parts = record.settings.get("parts")
    try:
        found = [
            ModelRecord(
                format=record.format,
                strategy=one["strategy"],
                weights_sha256=record.weights_sha256,
                settings=one["settings"],
                summary=TrainingSummary.model_validate(one["summary"]),
            )
            for one in (parts if isinstance(parts, list | tuple) else [])
        ]
    except (ValidationError, KeyError, TypeError) as error:
        raise InputError(
            f"model folder {folder} is broken: a model in it has no sound record ({' '.join(str(error).split())[:200]})"
        ) from None
    if any(one.strategy == KIND for one in found):
        raise InputError(f"model folder {folder} is broken: a model in it consists of several models itself")
    if [name for one in found for name in species_of(one, folder)] != list(species_of(record, folder)):
        raise InputError(f"model folder {folder} is broken: the species of the models in it are not those of the folder")
    return found


def species_of(record: ModelRecord, folder: Place) -> tuple[str, ...]:
    """Return the names of a model's species, which are valid names of folders.

    Raises
    ------
    InputError
        If the settings are broken.
    """
    return general_settings(record, folder).species


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The two files of a model: of a folder with one, or of one of several in a folder as its own folder has them, byte by byte.

    Parameters
    ----------
    species
        Of the model.
    weights, record
        Content of `model.safetensors` and of `model.json`.
    """

    species: tuple[str, ...]
    weights: bytes
    record: bytes

    @property
    def identity(self) -> tuple[str, str]:
        """Hashes of the two: what identifies the model, whatever others share its folder."""
        return hashlib.sha256(self.weights).hexdigest(), hashlib.sha256(self.record).hexdigest()


def files_in(folder: Path) -> list[ModelFiles]:
    """Return the files of each model in a folder, in the order of `parts_of`.

    Raises
    ------
    InputError
        If the folder holds no sound model.
    """
    record, weights = read_folder(folder)
    if record.strategy != KIND:
        return [ModelFiles(species_of(record, folder), weights, (folder / SETTINGS_NAME).read_bytes())]
    return [
        ModelFiles(species_of(one, folder), own, record_text(one.strategy, own, one.settings, one.summary).encode())
        for one, own in contents(record, weights, folder)
    ]


def is_same_model(one: ModelFiles, other: ModelFiles) -> bool:
    """Whether two models have the same arrays, settings and summary; earlier versions packed arrays of no axis with one."""
    if one.identity == other.identity:
        return True
    arrays = [unpack_arrays(files.weights, Path()) for files in (one, other)]
    records = [
        {key: value for key, value in json.loads(files.record).items() if key in ("strategy", "settings", "summary")}
        for files in (one, other)
    ]
    return (
        records[0] == records[1]
        and arrays[0].keys() == arrays[1].keys()
        and all(
            np.array_equal(value.ravel(), arrays[1][name].ravel(), equal_nan=value.dtype.kind == "f") for name, value in arrays[0].items()
        )
    )


def summary_of(record: ModelRecord, folder: Place, species: str) -> tuple[TrainingSummary, int] | None:
    """Return what the training of a species reports, and the place of the species in its lists; None if the folder has no model of it.

    Raises
    ------
    InputError
        If a record is broken.
    """
    for one in records_in(record, folder):
        names = species_of(one, folder)
        if species in names:
            return one.summary, names.index(species)
    return None


def _summary(parts: Sequence[TrainingSummary]) -> TrainingSummary:
    """Join what the trainings report; what one of them does not report is left out."""
    found: Mapping[str, list[Any]] = {key: [getattr(one, key) for one in parts] for key in _PER_SPECIES}
    joined = {key: list(chain.from_iterable(values)) for key, values in found.items() if all(value is not None for value in values)}
    return TrainingSummary.model_validate(joined)
