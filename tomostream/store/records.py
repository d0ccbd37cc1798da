"""What does a store record about itself?  The attribute `tomostream` of its group, typed.

Unknown keys are kept: later versions may write more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tomostream.errors import InputError
from tomostream.fingerprint import Fingerprint
from tomostream.normalisation import ROBUST, Normalisation
from tomostream.remote.places import place
from tomostream.store.seals import SEAL, sealed_group
from tomostream.store.typed_json import check_format, check_json, parse_json

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_AGAIN = "copy the store again, or make it again with --overwrite"
FORMAT = 1  # of the attribute; stores of version 0.1 don't say it
GRID_FORMAT = 2  # where there is a `grid`: earlier versions would take the logits for scores
SEAMS = "seams"  # path of the array beside the levels
ROBUST_KEY = "robust_normalisation"  # apart from `normalisation`, whose form version 0.1 checks
_Level = Annotated[str, Field(pattern=r"^\d+$")]
_Count = Annotated[int, Field(ge=0)]
_Edges = Annotated[list[Annotated[int, Field(ge=1, le=2**24)]], Field(min_length=3, max_length=3)]


class StatisticsRecord(BaseModel):
    """The statistics of one level (`Normalisation`)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    mean: _Finite
    std: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    clipped_mean: _Finite
    clipped_std: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    finite: _Count
    total: _Count
    clip_sigma: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3.0


class RobustRecord(StatisticsRecord):
    """The robust statistics of one level, of one definition."""

    fill: _Finite | None = None


class GridRecord(BaseModel):
    """Of scores that are stored at a coarser level than they are of: where they belong, and by which blocks they were computed (`coarse_grid`).

    Lists of three are edges, voxels of level 0 (z y x); `box` is where there are scores, its first and last corner.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    level: Annotated[int, Field(ge=1, le=30)]
    volume: _Edges
    chunk: _Edges
    shard: _Edges
    core: _Edges
    box: Annotated[list[Annotated[list[_Count], Field(min_length=3, max_length=3)]], Field(min_length=2, max_length=2)] | None = None


class PointsRecord(BaseModel):
    """The table whose points a label mask shows: its file's name, and, of a table without header, its columns and unit.

    No name: it can't be written in a store.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    table: str | None = None
    columns: list[str] | None = None
    unit: Literal["voxel", "angstrom"] | None = None


Attributes = dict[str, Any]
"""The attribute `tomostream` of a store: `StoreRecord` has the keys that are read; kinds of stores and later releases add theirs."""


class StoreRecord(BaseModel):
    """Everything that any stage reads; None where a store of another kind lacks it."""

    model_config = ConfigDict(extra="allow", strict=True)

    format: int = 1
    complete: bool | None = None
    fingerprint: Fingerprint | None = None
    kind: Literal["labels", "scores", "tomogram"] | None = None
    normalisation: dict[_Level, StatisticsRecord] | None = None
    robust_normalisation: dict[_Level, dict[Annotated[str, Field(pattern=r"^robust-\d+$")], RobustRecord]] | None = None
    source: dict[str, Any] | None = None
    stored_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    stored_offset: _Finite | None = None
    species: str | None = None
    tomogram: str | None = None
    strategy: str | None = None
    pick_method: str | None = None
    logits: bool | None = None
    score_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    score_offset: _Finite | None = None
    score_missing: int | None = None
    values: dict[str, str] | None = None
    points_table: PointsRecord | None = None
    grid: GridRecord | None = None
    levels_sha256: list[str] | None = None
    seams_sha256: str | None = None
    seal: str | None = None


def put_statistics(attributes: Attributes, level: int, normalisation: Normalisation) -> None:
    """Put a level's statistics among a store's attributes."""
    values = normalisation.to_json()
    robust = values.pop("robust", None)
    attributes.setdefault("normalisation", {})[str(level)] = values
    if robust is not None:  # by its definition: another version's stay what they are
        attributes.setdefault(ROBUST_KEY, {}).setdefault(str(level), {})[ROBUST] = robust


def checked_attributes(attributes: Mapping[str, Any], path: str) -> Attributes:
    """Return the attribute `tomostream` of a group's attributes, checked; None for stores of other software.

    Raises
    ------
    InputError
        If a later version of tomostream wrote it, a value has a wrong type or is impossible, or its seal or that of a level's metadata is
        broken; the message names the place.
    """
    ours = attributes.get("tomostream")
    if not isinstance(ours, dict):
        return {}
    where = f"attribute 'tomostream' of {path}"
    check_format(ours, GRID_FORMAT if "grid" in ours else FORMAT, where)
    record: StoreRecord = check_json(ours, StoreRecord, where)
    if record.seal is not None:
        # read it once more, as a whole: another of our processes may have changed it since the attributes were read
        group: dict[str, Any] = parse_json((place(path) / "zarr.json").read_bytes(), dict[str, Any], f"{path}/zarr.json")
        ours = (group.get("attributes") or {}).get("tomostream")
        if not isinstance(ours, dict) or SEAL not in ours or sealed_group(group) != group:
            raise InputError(f"{path}: its metadata (zarr.json) are damaged or were changed since it was made; {_AGAIN}")
        hashes = {str(level): known for level, known in enumerate(record.levels_sha256 or ())}
        if record.seams_sha256 is not None:
            hashes[SEAMS] = record.seams_sha256
        for array, known in hashes.items():
            file = place(path) / array / "zarr.json"
            try:
                found = hashlib.sha256(file.read_bytes()).hexdigest()
            except FileNotFoundError:
                found = "missing"
            if found != known:
                raise InputError(f"{file} is missing, damaged, or was changed since it was made; {_AGAIN}")
    return ours
