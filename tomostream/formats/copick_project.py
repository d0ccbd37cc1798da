"""Which tomograms and picks does a copick project's file name?  The file is JSON; it says under which roots the project lies.

1. Roots: `overlay_root`, which copick writes to, then `static_root`; `local://PATH`, a path, or a URL.
2. Tomograms: `ROOT/ExperimentRuns/RUN/VoxelSpacing10.000/TYPE.zarr`.  They are named as copick names them, `TYPE@SPACING` (`denoised@10`), either
   part a pattern or left out; what is meant must be one type at one spacing.
3. Picks: `ROOT/ExperimentRuns/RUN/Picks/USER_SESSION_OBJECT.json`; `OBJECT:USER/SESSION`, likewise.
4. What is in both roots counts once, the overlay's.

Limits: projects whose data are listed by a server (`cryoet_data_portal`, `mlcroissant`) are refused: name their stores by their URLs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tomostream.errors import InputError
from tomostream.remote.places import Place, place

RUNS = "ExperimentRuns"  # the folder by which a copick project is recognised
PICKS = "Picks"
_NAMED = re.compile(r"(?P<file>.+?\.json)(?::(?P<uri>.+))?", re.IGNORECASE | re.DOTALL)
_SPACING = re.compile(r"VoxelSpacing(?P<value>\d+(?:\.\d+)?)")
_SERVED = ("cryoet_data_portal", "mlcroissant")
_SAME = 1e-3  # relative difference of two texts of one spacing


@dataclass(frozen=True, slots=True)
class CopickProject:
    """A project: its file, and where its data lie, what wins first."""

    file: str
    roots: tuple[Place, ...]

    @property
    def overlay(self) -> Place:
        """Where copick and everybody else write."""
        return self.roots[0]

    def runs(self) -> Iterator[tuple[str, Place]]:
        """Each run's name and folder; a run may have a folder under each root."""
        for root in self.roots:
            if (root / RUNS).is_dir():
                yield from ((folder.name, folder) for folder in _sorted((root / RUNS).iterdir()) if folder.is_dir())


def _sorted(places: Iterable[Place]) -> list[Place]:
    return sorted(places, key=str)


def read_project(file: str) -> CopickProject | None:
    """Read a project's file; None where it is no such file (a file of picks is JSON too).

    Raises
    ------
    InputError
        If the project can't be used.
    """
    where = place(file)
    if not where.exists() or where.is_dir():
        return None
    try:
        values: Any = json.loads(where.read_bytes())
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or "pickable_objects" not in values:
        return None
    if (kind := values.get("config_type", "filesystem")) in _SERVED:
        raise InputError(f"{file} is a copick project whose data a server lists ({kind}); name its tomograms by their URLs")
    roots = [values[key] for key in ("overlay_root", "static_root") if values.get(key) is not None]
    if not roots or not all(isinstance(root, str) for root in roots):
        raise InputError(
            f"{file} is a copick project without overlay_root; it must be a path or URL, found {values.get('overlay_root')!r:.80}"
        )
    return CopickProject(file, tuple(dict.fromkeys(place(root.removeprefix("local://")) for root in roots)))


def is_project_folder(path: Place) -> bool:
    """Whether a folder is a copick project, or its folder of runs."""
    return path.is_dir() and (path.name == RUNS or (path / RUNS).is_dir())


def listed_tomograms(text: str) -> list[str] | None:
    """Return the stores that `PROJECT.json` or `PROJECT.json:TYPE@SPACING` means; None where it is no copick project.

    Raises
    ------
    InputError
        As `tomograms`.
    """
    found = _named(text)
    return None if found is None else tomograms(*found)


def listed_picks(text: str) -> list[str] | None:
    """Return the files of picks that `PROJECT.json` or `PROJECT.json:OBJECT:USER/SESSION` means; None where it is no copick project.

    Raises
    ------
    InputError
        As `picks`.
    """
    found = _named(text)
    return None if found is None else picks(*found)


def _named(text: str) -> tuple[CopickProject, str] | None:
    parts = split(text)
    project = None if parts is None else read_project(parts[0])
    return None if parts is None or project is None else (project, parts[1])


def split(text: str) -> tuple[str, str] | None:
    """Part `FILE.json:URI` into file and URI (which may be empty); None for anything else."""
    match = _NAMED.fullmatch(text)
    return None if match is None else (match["file"], match["uri"] or "")


def tomograms(project: CopickProject, uri: str) -> list[str]:
    """Return the stores that `TYPE@SPACING` means, one per run.

    Raises
    ------
    InputError
        If there is none, or there are several types or spacings.
    """
    kind, _, spacing = uri.partition("@")
    found: dict[tuple[str, str, str], str] = {}
    for run, folder in project.runs():
        for store in _sorted(folder.glob("VoxelSpacing*/*.zarr")):
            level = _SPACING.fullmatch(store.parent.name)
            name = store.name.removesuffix(".zarr")
            if level is not None and not name.endswith("_features"):
                found.setdefault((run, name, level["value"]), str(store))
    there = sorted({f"{name}@{value}" for _, name, value in found})
    chosen = {key: store for key, store in found.items() if fnmatchcase(key[1], kind or "*") and _is_spacing(key[2], spacing, project.file)}
    meant = sorted({f"{name}@{value}" for _, name, value in chosen})
    if not chosen:
        raise InputError(f"{project.file} has no tomogram '{uri or '*'}'; it has {', '.join(there) or 'none'}")
    if len(meant) > 1:
        raise InputError(f"{project.file} has tomograms {', '.join(meant)}; choose one: {project.file}:{meant[0]}")
    return [chosen[key] for key in sorted(chosen)]


def _is_spacing(value: str, wanted: str, file: str) -> bool:
    if wanted in ("", "*"):
        return True
    try:
        return abs(float(value) / float(wanted) - 1) < _SAME
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{file}: a voxel spacing must be a number above zero, as in denoised@10.0; found '{wanted}'") from None


def picks(project: CopickProject, uri: str) -> list[str]:
    """Return the files of picks that `OBJECT:USER/SESSION` means, one a run and object.

    Raises
    ------
    InputError
        If there is none, or several users or sessions picked one object in one run.
    """
    name, _, owner = uri.partition(":")
    user, _, session = owner.partition("/")
    wanted = [part or "*" for part in (user, session, name)]
    holder: dict[tuple[str, str], str] = {}
    there: dict[str, None] = {}
    for run, folder in project.runs():
        for file in _sorted((folder / PICKS).glob("*.json")) if (folder / PICKS).is_dir() else []:
            parts = file.stem.split("_", 2)
            if len(parts) != 3:
                continue
            there[f"{parts[2]}:{parts[0]}/{parts[1]}"] = None
            if not all(map(fnmatchcase, parts, wanted)):
                continue
            other = holder.setdefault((run, parts[2]), str(file))
            if Path(other).name != file.name:
                raise InputError(
                    f"{other} and {file} both hold picks of '{parts[2]}' in run '{run}', by different users or sessions; choose one: "
                    f"{project.file}:{parts[2]}:{parts[0]}/{parts[1]}"
                )
    if not holder:
        raise InputError(f"{project.file} has no picks '{uri or '*'}'; it has {', '.join(sorted(there)) or 'none'}")
    return list(holder.values())
