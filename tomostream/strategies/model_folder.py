"""A trained model on disk: `model.safetensors` (what was learnt) and `model.json` (all that its use needs).

The JSON file is written last and holds the hash of the weights, so that a half-written folder, or one mixed by hand, is
recognised.  The same model gives the same bytes.

`model.json` is a `ModelRecord`.  Its `settings` are a strategy's own class, derived from `ModelSettings`; its `summary` is what training reports.
Format 1 (version 0.1) is read for ever: it kept the settings of strategies other than the U-Net in two parts, and called the summary `extra`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from tomostream.errors import InputError
from tomostream.normalisation import KINDS, PLAIN, ROBUST
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.places import Place
from tomostream.store.seals import is_broken, sealed
from tomostream.store.typed_json import parse_json

WEIGHTS_NAME = "model.safetensors"
SETTINGS_NAME = "model.json"
RECORD_NAME = "training.json"
FORMAT = 2
MOST_LEVELS = 16
FIRST_KIND = "unet"  # of the models that were written before they said their kind


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Settings that every model has; a strategy's own class, a frozen keyword-only dataclass too, adds to them.

    They are kept as JSON: numbers, texts, None, and tuples and dictionaries of such.
    """

    species: tuple[str, ...]  # name of each output
    radius_ang: tuple[float, ...]  # of each species, angstrom
    level: int  # pyramid level that is read
    spacing: float  # voxel spacing of level 0 in training, angstrom
    clip_sigma: float  # where the standardised input is clipped, standard deviations
    trained_on: tuple[str, ...]  # names of the tomograms
    version: str  # of tomostream
    batch_statistics: Literal["tomogram", "training"] = "training"  # of batch-norm, in prediction: each tomogram's own, or the training's
    normalisation: str = ROBUST  # how the input is standardised; models of version 0.1 don't say it: `PLAIN`

    def __post_init__(self) -> None:
        if len(self.radius_ang) != len(self.species) or not self.species:
            raise InputError(f"a model needs one radius for each species, found {len(self.radius_ang)} for '{', '.join(self.species)}'")
        if wrong := [name for name in self.species if name in ("", ".", "..") or set(name) & set("/\\\0")]:
            raise InputError(
                f"a model's species are names of folders too, {wrong[0]!r} can't be one: the model was changed, or is a stranger's"
            )
        if len(set(self.species)) != len(self.species):
            raise InputError(f"a model's species must differ, found {', '.join(self.species)}")
        if not 0 <= self.level <= MOST_LEVELS or not 0 < self.spacing < math.inf:
            raise InputError(
                f"a model's level must be 0 to {MOST_LEVELS} and its spacing above zero, found {self.level} and {self.spacing} A"
            )
        if self.batch_statistics not in ("tomogram", "training"):
            raise InputError(f"a model's batch statistics are those of each tomogram or of training, found {self.batch_statistics!r}")
        if self.normalisation not in KINDS:
            raise InputError(
                f"a model's normalisation is one of {', '.join(KINDS)}, found {self.normalisation!r}; a later version may know it"
            )


class RecordedClicks(BaseModel):
    """How high the clicks of a species stand among the peaks (`picking.peak_heights`), in the trained model's scores."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    learnt: list[float]  # heights of clicks that the model has learnt from
    left_out: list[float]  # of those that it has not
    ranks: list[float]  # of the latter, from 1, in their tomograms
    unit: float | None = None  # of heights, in scores, where the latter are


class TrainingSummary(BaseModel):
    """What training reports about a model; what a strategy does not know stays None."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    best_epoch: int | None = None  # counted from 1
    expected_numbers: list[list[int | None]] | None = None  # per species, of each clicked tomogram: given or estimated
    labelled_fraction: list[float] | None = None  # of the training voxels, per species
    expected_fraction: list[float] | None = None  # of particle voxels, per species
    label_radius_vox: list[float] | None = None  # per species, voxels of the level
    chosen_ways: list[str] | None = None  # per species, how it is scored, where left-out clicks chose
    left_out_ranks: list[list[float]] | None = None  # per species, of each left-out click among the picks of all clicked tomograms, from 0
    evidence: list[dict[str, float]] | None = None  # per species, what each way cost by the ranks of left-out clicks
    processes: int | None = None  # that trained together; None: one
    clicked_voxels: list[int] | None = None  # of each clicked tomogram, at level 0
    clicks: list[RecordedClicks] | None = None  # per species, where they were measured


class ModelRecord(BaseModel):
    """The content of `model.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    strategy: str  # the kind of model: which strategy understands weights and settings
    weights_sha256: str
    settings: dict[str, Any]
    summary: TrainingSummary
    seal: str | None = None  # of the record itself; those of 0.1 have none


S = TypeVar("S", bound=ModelSettings)


def write_folder(folder: Path, kind: str, weights: bytes, settings: ModelSettings, summary: TrainingSummary) -> None:
    """Write the two files of a model, the JSON file last.

    Parameters
    ----------
    kind
        Which strategy understands the weights and the settings (`Strategy.model_kind`).
    weights
        The content of `model.safetensors`: `pack_arrays` of what was learnt, which may be nothing (`pack_arrays({})`).
    summary
        Equal models have equal bytes because it holds no times.

    Raises
    ------
    InputError
        If the folder can't be written.
    """
    record = {
        "format": FORMAT,
        "strategy": kind,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "settings": asdict(settings),
        "summary": summary.model_dump(exclude_none=True),
    }
    write_atomically(folder / WEIGHTS_NAME, weights)
    write_atomically(folder / SETTINGS_NAME, json.dumps(sealed(record), indent=1) + "\n")


def read_record(folder: Place) -> ModelRecord:
    """Read the record of a model folder, not its weights.

    Raises
    ------
    InputError
        If there is no model, or its record is broken or of a later version.
    """
    path = folder / SETTINGS_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{folder} is no model folder: it lacks {SETTINGS_NAME}; did training finish?") from None
    except OSError as error:
        raise InputError(f"model folder {folder} can't be read: {error}") from None
    content: dict[str, Any] = parse_json(text, dict[str, Any], path)
    found = content.get("format")
    if found not in (1, FORMAT):
        raise InputError(f"{path} is not a model of this version of tomostream (format {FORMAT}), found {str(found)[:60]}")
    if is_broken(content):
        raise InputError(f"{path} is damaged, or was changed since it was written (its seal is another); train again")
    try:
        record = ModelRecord.model_validate(_of_format_1(content) if found == 1 else content)
        record.settings.setdefault("normalisation", PLAIN)
        return record
    except (ValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"model folder {folder} is broken: {_one_line(error)}") from None


def read_folder(folder: Path) -> tuple[ModelRecord, bytes]:
    """Read the two files of a model: its record, and the weights as bytes.

    Raises
    ------
    InputError
        If the folder is missing, half-written, changed, or no model of tomostream.
    """
    if not folder.is_dir():
        raise InputError(f"model folder {folder} does not exist; give the folder that `tomostream train` wrote")
    record = read_record(folder)
    try:
        weights = (folder / WEIGHTS_NAME).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{folder} is no model folder: it lacks {WEIGHTS_NAME}; did training finish?") from None
    except OSError as error:
        raise InputError(f"model folder {folder} can't be read: {error}") from None
    if record.weights_sha256 != hashlib.sha256(weights).hexdigest():
        raise InputError(
            f"{folder / WEIGHTS_NAME} does not belong to {SETTINGS_NAME} (its hash differs): half-written or changed; train again"
        )
    return record, weights


def settings_of(record: ModelRecord, settings: type[S], folder: Path) -> S:
    """Return a record's settings as a strategy's own class.

    Raises
    ------
    InputError
        If one is missing, or of another type.
    """
    try:
        return TypeAdapter(settings).validate_python(record.settings)
    except ValidationError as error:
        raise InputError(f"model folder {folder} is broken: {_one_line(error)}") from None


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the content of `model.safetensors`: the same for the same arrays."""
    return save_arrays({name: np.ascontiguousarray(value) for name, value in sorted(arrays.items())})


def unpack_arrays(weights: bytes, folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays of `model.safetensors`.

    Raises
    ------
    InputError
        If they can't be read.
    """
    try:
        return {str(name): value for name, value in load_arrays(weights).items()}
    except (SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"model folder {folder} is broken: {_one_line(error)}") from None


def _of_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """Return a record of version 0.1 in today's form."""
    settings, summary = dict(content["settings"]), dict(content["extra"])
    settings |= settings.pop("options", {})
    if "half_height_vox" in summary:
        summary["label_radius_vox"] = summary.pop("half_height_vox")
    return {
        "format": FORMAT,
        "strategy": content.get("strategy", FIRST_KIND),
        "weights_sha256": content["weights_sha256"],
        "settings": settings,
        "summary": summary,
    }


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()[:5])
    return " ".join(str(error).split())[:300]
