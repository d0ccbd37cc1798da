"""What lies at a path that was given for something else?  For the message: what it is, and what to do instead.

Only names and a few bytes are looked at, and only of local paths; the code that reads a file checks it itself.
"""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path

from tomostream.remote.places import RemotePath, place

_TABLES = (".csv", ".tsv", ".star", ".tbl", ".cmm", ".coords", ".cbox", ".parquet", ".ndjson", ".mod", ".em")
MODEL_RECORD, TRAINING_RECORD = "model.json", "training.json"  # of a finished model; of what it is or was trained from
_STAMP_AT, _STAMP = 208, b"MAP"


class Kind(Enum):
    """What a path can be, in words."""

    MISSING = "not there"
    EMPTY = "an empty file"
    MRC = "an MRC file"
    CONFIGURATION = "a YAML file"
    TABLE = "a table"
    FILE = "a file"
    STORE = "a Zarr store"
    MODEL = "a model folder"
    PROJECT = "the project folder of a run"
    FOLDER = "a folder"


_ENDINGS = {Kind.MRC: (".mrc", ".rec", ".map"), Kind.CONFIGURATION: (".yaml", ".yml"), Kind.TABLE: _TABLES}


class Wanted(Enum):
    """What was asked for, in words."""

    CONFIGURATION = "a configuration (a YAML file)"
    STORE = "an OME-Zarr store"
    MRC = "an MRC file (.mrc .rec .map, also .gz or .bz2)"
    TOMOGRAM = "a tomogram (an MRC file or an OME-Zarr store)"
    TABLE = "a table of positions"
    MODEL = "a model folder"
    PROJECT = "the project folder of a run"


_ADVICE = {
    (Wanted.CONFIGURATION, Kind.MISSING): "give a configuration, or write one: `tomostream init FOLDER_OF_TOMOGRAMS`",
    (Wanted.CONFIGURATION, Kind.MRC): "to write one for the tomograms there: `tomostream init {folder}`",
    (Wanted.CONFIGURATION, Kind.STORE): "to write one for the tomograms there: `tomostream init {folder}`",
    (Wanted.CONFIGURATION, Kind.FOLDER): "to write one for the tomograms in it: `tomostream init {path}`",
    (
        Wanted.CONFIGURATION,
        Kind.PROJECT,
    ): "give the file that it was run with (as it was resolved: {path}/resolved.yaml); its state: `tomostream status {path}`",
    (Wanted.CONFIGURATION, Kind.TABLE): "a table of clicks is named in one: `tomostream init FOLDER_OF_TOMOGRAMS --clicks {path}`",
    (Wanted.CONFIGURATION, None): "to write one: `tomostream init FOLDER_OF_TOMOGRAMS`",
    (Wanted.STORE, Kind.MISSING): "give the folder of an OME-Zarr image, as `tomostream convert` makes it",
    (Wanted.STORE, Kind.MRC): "convert it first: `tomostream convert {path} -o DIR`",
    (Wanted.STORE, Kind.PROJECT): "its tomograms are in {path}/tomograms, its score maps in {path}/scores",
    (
        Wanted.STORE,
        Kind.FOLDER,
    ): "it is without Zarr metadata (no zarr.json, no .zgroup), and has no folder NAME.zarr in it; name the files in a folder of tomograms: {path}/*.mrc",
    (Wanted.STORE, None): "give the folder NAME.ome.zarr that `tomostream convert` or `predict` made",
    (Wanted.MRC, Kind.STORE): "a store needs no conversion; use it as it is",
    (Wanted.MRC, Kind.PROJECT): "its tomograms are converted already, in {path}/tomograms",
    (Wanted.MRC, Kind.FOLDER): "name its files: {path}/*.mrc",
    (Wanted.MRC, Kind.EMPTY): "it has 0 bytes, the header alone takes 1024: copy it again",
    (Wanted.MRC, None): "give the tomograms' files",
    (Wanted.TOMOGRAM, Kind.FOLDER): "name what is in it: {path}/*.mrc or {path}/*.zarr",
    (Wanted.TOMOGRAM, Kind.PROJECT): "its tomograms are {path}/tomograms/*.zarr",
    (Wanted.TOMOGRAM, None): "give paths or patterns of tomograms",
    (Wanted.TABLE, Kind.PROJECT): "its picks are in {path}/picks",
    (Wanted.TABLE, None): "give a CSV file, or one that `tomostream import` can read",
    (Wanted.MODEL, Kind.PROJECT): "its model is {path}/model",
    (Wanted.MODEL, Kind.FOLDER): f"it lacks {MODEL_RECORD} and model.safetensors; did training finish?",
    (Wanted.MODEL, None): "give the folder that `tomostream train` made, PROJECT/model of a run",
    (Wanted.PROJECT, Kind.CONFIGURATION): "give its `project`",
    (Wanted.PROJECT, Kind.FOLDER): "it has no resolved.yaml: `tomostream run` made nothing there",
    (Wanted.PROJECT, None): "give the folder of `tomostream run` or `demo`",
}


# what can't be told apart by its name
_MAY_BE = ((Wanted.TABLE, Kind.FILE), (Wanted.TOMOGRAM, Kind.FILE), (Wanted.TOMOGRAM, Kind.MRC), (Wanted.TOMOGRAM, Kind.STORE))


def kind_at(path: str | os.PathLike[str] | RemotePath) -> Kind | None:
    """What is at a path; None for a URL, and for what can't be looked at."""
    where = place(path)
    if isinstance(where, RemotePath):
        return None
    try:
        return _folder_kind(where) if where.is_dir() else _file_kind(where)
    except OSError:
        return None


def is_project(folder: Path) -> bool:
    """Whether a folder is a run's: a model folder has a resolved configuration too."""
    return (folder / "resolved.yaml").is_file() and not _has_model_record(folder)


def _has_model_record(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (MODEL_RECORD, TRAINING_RECORD))


def _folder_kind(folder: Path) -> Kind:
    if _has_model_record(folder):
        return Kind.MODEL
    if is_project(folder):
        return Kind.PROJECT
    is_store = folder.name.endswith(".zarr") or any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))
    return Kind.STORE if is_store else Kind.FOLDER


def _file_kind(path: Path) -> Kind:
    if not path.exists():
        return Kind.MISSING
    if path.is_file() and path.stat().st_size == 0:
        return Kind.EMPTY
    name = path.name.lower().removesuffix(".gz").removesuffix(".bz2")
    by_ending = next((kind for kind, endings in _ENDINGS.items() if name.endswith(endings)), None)
    return by_ending or (Kind.MRC if path.is_file() and _has_stamp(path) else Kind.FILE)


def _has_stamp(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_STAMP_AT + len(_STAMP))[_STAMP_AT:] == _STAMP


def instead(path: str | os.PathLike[str] | RemotePath, wanted: Wanted) -> str | None:
    """Say what is at a path where `wanted` should be, and what to do; None where it may be that, or can't be told.

    >>> instead("/proc/none.yaml", Wanted.CONFIGURATION)
    '/proc/none.yaml does not exist; give a configuration, or write one: `tomostream init FOLDER_OF_TOMOGRAMS`'
    """
    kind = kind_at(path)
    if kind is None or kind.name == wanted.name or (wanted, kind) in _MAY_BE:
        return None
    advice = _ADVICE.get((wanted, kind), _ADVICE[wanted, None]).format(path=path, folder=place(path).parent)
    if kind is Kind.MISSING:
        return f"{path} does not exist; {advice}"
    what = "is" if kind is Kind.FILE else f"is {kind.value},"
    return f"{path} {what} not {wanted.value}; {advice}"
