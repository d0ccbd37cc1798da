"""Read and write a trained model on disk: `model.safetensors` (the weights) and `model.json` (the settings and the training summary).

The JSON file is written last and holds the hash of the weights, so that a folder that is half-written, or mixed from two models, is recognised.
The same model gives the same bytes.

`model.json` is a `ModelRecord`.  Its `settings` are those of `ModelSettings` or of a strategy's own subclass; its `summary` is a `TrainingSummary`.
Format 1 (version 0.1) stays readable: it split the settings of strategies other than the U-Net into two parts and called the summary `extra`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from tomostream.errors import InputError
from tomostream.normalisation import KINDS, PLAIN, ROBUST
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.copies import local_folder
from tomostream.remote.path_kinds import MODEL_RECORD, TRAINING_RECORD, Wanted, instead
from tomostream.remote.places import Place
from tomostream.store.seals import is_broken, sealed
from tomostream.store.typed_json import adapter_of, parse_json, refuse_oversized

WEIGHTS_NAME = "model.safetensors"
SETTINGS_NAME = MODEL_RECORD
RECORD_NAME = TRAINING_RECORD
FORMAT = 2
MOST_LEVELS = 16
LONGEST_NAME = 255  # bytes of a folder's name on usual file systems
FIRST_KIND = "unet"  # kind of models written before the record named it


def is_folder_name(name: str) -> bool:
    """Whether a species' name is a folder's name, and leads nowhere else."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:  # half of a pair of surrogates, which JSON can hold
        return False
    return name not in ("", ".", "..") and not set(name) & set("/\\\0") and length <= LONGEST_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Settings that every model has; a strategy may add its own in a frozen, keyword-only subclass.

    They are stored as JSON, so values must be numbers, strings, None, or tuples and dictionaries of these.
    """

    species: tuple[str, ...]  # name of each output
    radius_ang: tuple[float, ...]  # radius of each species, angstrom
    level: int  # pyramid level that is read
    spacing: float  # voxel spacing of level 0 in training, angstrom
    clip_sigma: float  # where the standardised input is clipped, standard deviations
    trained_on: tuple[str, ...]  # names of the tomograms
    version: str  # version of tomostream that trained the model
    batch_statistics: Literal["tomogram", "training"] = "training"  # batch-norm statistics in prediction: the tomogram's own, or training's
    normalisation: str = ROBUST  # how the input is standardised; `PLAIN` for models of version 0.1, which don't record it

    def __post_init__(self) -> None:
        if len(self.radius_ang) != len(self.species) or not self.species:
            raise InputError(f"a model needs one radius per species, found {len(self.radius_ang)} for '{', '.join(self.species)}'")
        if wrong := [name for name in self.species if not is_folder_name(name)]:
            raise InputError(
                f"species names of a model must be valid folder names, found {wrong[0]!r}: the model was modified, or comes from an unknown source"
            )
        if len(set(self.species)) != len(self.species):
            twice = next(name for name, count in Counter(self.species).items() if count > 1)
            raise InputError(f"a model's species must differ, found {twice!r} twice")
        if not 0 <= self.level <= MOST_LEVELS or not 0 < self.spacing < math.inf:
            raise InputError(
                f"a model's level must be 0 to {MOST_LEVELS} and its spacing above zero, found {self.level} and {self.spacing} A"
            )
        if self.batch_statistics not in ("tomogram", "training"):
            raise InputError(f"a model's batch_statistics must be 'tomogram' or 'training', found {self.batch_statistics!r}")
        if self.normalisation not in KINDS:
            raise InputError(
                f"a model's normalisation must be one of {', '.join(KINDS)}, found {self.normalisation!r}; a later version of tomostream may know it"
            )


class RecordedClicks(BaseModel):
    """Heights (`picking.peak_heights`) and ranks of the clicks of one species among the peaks of the trained model's scores."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    learnt: list[float]  # heights of the clicks that the model learnt from
    left_out: list[float]  # heights of the left-out clicks
    ranks: list[float]  # ranks of the left-out clicks in their tomograms, from 1
    unit: float | None = None  # unit of height, in scores; the median over the tomograms of left-out clicks; None: there are none


class TrainingSummary(BaseModel):
    """What training reports about a model; None where a strategy does not provide it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    best_epoch: int | None = None  # counted from 1
    expected_numbers: list[list[int | None]] | None = None  # [species][clicked tomogram]: expected number, given or estimated
    labelled_fraction: list[float] | None = None  # per species, fraction of the training voxels in labels
    expected_fraction: list[float] | None = None  # per species, expected fraction of the training voxels in particles
    label_radius_vox: list[float] | None = None  # per species, voxels of the level
    rejected: list[int] | None = None  # per species, places labelled 0 that the network learnt from; None: there were none
    rejected_fraction: list[float] | None = None  # per species, fraction of the training voxels around these places
    chosen_ways: list[str] | None = None  # per species, the way of scoring that was chosen with left-out clicks
    look_alikes: list[bool] | None = None  # per species, whether look-alikes are told by their profiles; None: an earlier model
    left_out_ranks: list[list[float]] | None = None  # [species][left-out click]: rank among the picks of all clicked tomograms, from 0
    evidence: list[dict[str, float]] | None = None  # per species, the cost of each way of scoring, from the ranks of left-out clicks
    processes: int | None = None  # number of processes that trained together; None: one
    clicked_voxels: list[int] | None = None  # voxels of each clicked tomogram, at level 0
    clicks: list[RecordedClicks] | None = None  # per species; None: not measured
    clicked: list[dict[str, int]] | None = None  # per species, the particles that were clicked in each tomogram; None: an earlier model


class ModelRecord(BaseModel):
    """The content of `model.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    strategy: str  # kind of model, which selects the strategy that loads it
    weights_sha256: str
    settings: dict[str, Any]
    summary: TrainingSummary
    seal: str | None = None  # checksum of the record; None for models of version 0.1


S = TypeVar("S", bound=ModelSettings)


def has_model(folder: Place) -> bool:
    """Whether a folder holds a finished model: its record is written last."""
    return (folder / SETTINGS_NAME).is_file()


def is_model_folder(folder: Path) -> bool:
    """Whether a folder has a file of a model, finished or not."""
    return any((folder / name).is_file() for name in (SETTINGS_NAME, WEIGHTS_NAME, RECORD_NAME))


def local_model(folder: Place) -> Path:
    """Return a model folder as a local one; the files of a remote one are fetched once a process.

    Raises
    ------
    InputError
        If a remote folder holds no finished model.
    """
    return local_folder(folder, (WEIGHTS_NAME, SETTINGS_NAME))


def write_folder(folder: Path, kind: str, weights: bytes, settings: ModelSettings, summary: TrainingSummary) -> None:
    """Write the two files of a model, the JSON file last.

    Parameters
    ----------
    folder
        An existing folder.
    kind
        The kind of model, which selects the strategy that loads it (`Strategy.model_kind`).
    weights
        The content of `model.safetensors`, from `pack_arrays`; a model without weights uses `pack_arrays({})`.
    settings
        Settings of the model.
    summary
        What training reports.  It must not hold times: equal models have equal bytes.

    Raises
    ------
    InputError
        If the folder can't be written.
    """
    write_atomically(folder / WEIGHTS_NAME, weights)
    write_atomically(folder / SETTINGS_NAME, record_text(kind, weights, asdict(settings), summary))


def record_text(kind: str, weights: bytes, settings: Mapping[str, Any], summary: TrainingSummary) -> str:
    """Return the content of `model.json`; parameters as of `write_folder`."""
    record = {
        "format": FORMAT,
        "strategy": kind,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "settings": dict(settings),
        "summary": summary.model_dump(exclude_none=True),
    }
    return json.dumps(sealed(record), indent=1) + "\n"


def read_record(folder: Place) -> ModelRecord:
    """Read the record of a model folder, without its weights.

    Raises
    ------
    InputError
        If the folder holds no model, or the record is broken or of a later version.
    """
    path = folder / SETTINGS_NAME
    refuse_oversized(path)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            instead(folder, Wanted.MODEL) or f"{folder} is not a model folder: it lacks {SETTINGS_NAME}; did training finish?"
        ) from None
    except OSError as error:
        raise InputError(instead(folder, Wanted.MODEL) or f"model folder {folder} can't be read: {error.strerror or error}") from None
    content: dict[str, Any] = parse_json(text, dict[str, Any], path)
    found = content.get("format")
    if found not in (1, FORMAT):
        raise InputError(f"{path} must have model format 1 or {FORMAT}, found {str(found)[:60]}; a later version of tomostream may read it")
    if is_broken(content):
        raise InputError(f"{path} was damaged or modified after it was written (its seal does not match); train again")
    try:
        record = ModelRecord.model_validate(_of_format_1(content) if found == 1 else content)
        record.settings.setdefault("normalisation", PLAIN)
        return record
    except (ValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"model folder {folder} is broken: {_one_line(error)}") from None


def read_folder(folder: Path) -> tuple[ModelRecord, bytes]:
    """Read the two files of a model: the record, and the content of the weights file.

    Raises
    ------
    InputError
        If the folder is missing, half-written or modified, or holds no model of tomostream.
    """
    if not folder.is_dir():
        raise InputError(instead(folder, Wanted.MODEL) or f"model folder {folder} does not exist")
    record = read_record(folder)
    try:
        weights = (folder / WEIGHTS_NAME).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{folder} is not a model folder: it lacks {WEIGHTS_NAME}; did training finish?") from None
    except OSError as error:
        raise InputError(f"model folder {folder} can't be read: {error}") from None
    if record.weights_sha256 != hashlib.sha256(weights).hexdigest():
        raise InputError(
            f"{folder / WEIGHTS_NAME} does not belong to {SETTINGS_NAME} (its hash differs): half-written or modified; train again"
        )
    return record, weights


def settings_of(record: ModelRecord, settings: type[S], folder: Place) -> S:
    """Return the settings of a record as an instance of a strategy's class.

    Raises
    ------
    InputError
        If a setting is missing or has the wrong type.
    """
    try:
        kind: Any = settings
        found: S = adapter_of(kind).validate_python(record.settings)
        return found
    except ValidationError as error:
        raise InputError(f"model folder {folder} is broken: {_one_line(error)}") from None


def general_settings(record: ModelRecord, folder: Place) -> ModelSettings:
    """Return the settings that a record has in common with those of all other models.

    Raises
    ------
    InputError
        If one is missing or has the wrong type.
    """
    names = {one.name for one in fields(ModelSettings)}
    common = {name: value for name, value in record.settings.items() if name in names}
    return settings_of(record.model_copy(update={"settings": common}), ModelSettings, folder)


def pack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the content of `model.safetensors`; equal arrays give equal bytes."""
    return save_arrays({name: np.ascontiguousarray(value) for name, value in sorted(arrays.items())})


def repack_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the content of `model.safetensors` for arrays that were unpacked: they keep their shapes, also those of no axis."""
    return save_arrays(dict(sorted(arrays.items())))


def unpack_arrays(weights: bytes, folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays by name from the content of `model.safetensors`.

    Raises
    ------
    InputError
        If the content can't be read.
    """
    try:
        return {str(name): value for name, value in load_arrays(weights).items()}
    except (SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"model folder {folder} is broken: {_one_line(error)}") from None


def _of_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """Convert a record of format 1 to the current format."""
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
