"""copick's picks: JSON in angstrom from the volume's corner, x y z, one file a tomogram and species.

Convention: `ExperimentRuns/RUN/Picks/USER_SESSION_OBJECT.json`; the parts of the file's name hold no underscore.  Written into a copick
project's overlay folder (`-o FOLDER`), or as one file (`-o NAME.json`) if there is one tomogram and one species.  Orientations are
written as the identity and ignored when read.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from tomostream.errors import InputError
from tomostream.formats.registry import Conversion
from tomostream.particles import Particles
from tomostream.remote.atomic_files import write_atomically

USER, SESSION = "tomostream", "0"
_IDENTITY = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


def read(path: Path, conversion: Conversion) -> Particles:
    """Read one JSON file, or all picks below a copick folder.

    Raises
    ------
    InputError
        If a file is no copick picks file.
    """
    files = sorted(path.glob("**/Picks/*.json")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no copick picks (ExperimentRuns/RUN/Picks/*.json)")
    return Particles.concatenate([_read_file(file, conversion) for file in files])


def _read_file(path: Path, conversion: Conversion) -> Particles:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        points = values["points"] or []
        rows = [[float(point["location"][axis]) for axis in ("z", "y", "x")] for point in points]
        scores = [float(point["score"]) if point.get("score") is not None else math.nan for point in points]
        species = str(values["pickable_object_name"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no copick picks file: {type(error).__name__}: {error}") from None
    unit = values.get("unit", "angstrom")
    if unit != "angstrom":
        raise InputError(f"{path}: its unit is '{unit}', copick's is angstrom")
    name = values.get("run_name") or conversion.tomogram or (path.parent.parent.name if path.parent.name == "Picks" else "")
    return Particles.build(np.array(rows).reshape(-1, 3), unit="angstrom", tomogram=str(name), species=species, score=scores)


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write one file, or one a tomogram and species below a folder.

    Raises
    ------
    InputError
        If one file is asked for and there are several tomograms or species.
    """
    found = conversion.to_unit(particles, "angstrom", "copick")
    groups = [(name, kind) for name in found.tomograms() for kind in found.of(tomogram=name).species_names()]
    if path.suffix == ".json":
        if len(groups) > 1:
            raise InputError(f"{path}: one copick file holds one tomogram and species, here are {len(groups)}; give a folder")
        name, kind = groups[0] if groups else ("", "particle")
        _write_file(path, found, name, kind)
        return
    for name, kind in groups:
        target = path / "ExperimentRuns" / name / "Picks" / f"{USER}_{SESSION}_{_plain(kind)}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_file(target, found.of(tomogram=name, species=kind), name, kind)


def _plain(species: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", species) or "particle"


def _write_file(path: Path, particles: Particles, name: str, species: str) -> None:
    rows = zip(particles.position_zyx.tolist(), particles.score.tolist(), strict=True)
    values = {
        "pickable_object_name": _plain(species),
        "user_id": USER,
        "session_id": SESSION,
        "run_name": name,
        "voxel_spacing": None,
        "unit": "angstrom",
        "points": [
            {
                "location": {"x": x, "y": y, "z": z},
                "transformation_": _IDENTITY,
                "instance_id": 0,
                "score": None if math.isnan(score) else score,
            }
            for (z, y, x), score in rows
        ],
        "trust_orientation": False,
    }
    write_atomically(path, json.dumps(values, indent=1))
