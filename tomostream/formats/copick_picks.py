"""copick's picks: JSON in angstrom from the volume's corner, x y z, one file per tomogram, species, user and session.

Convention: `ExperimentRuns/RUN/Picks/USER_SESSION_OBJECT.json`; the parts of the file's name hold no underscore.  A point's place is its
`location` moved by the translation of its 4 x 4 `transformation_`, as copick's own tables of picks have it.  Written into a copick project's
overlay folder (`-o FOLDER`, or `-o PROJECT.json`, the project's file), or as one file (`-o NAME.json`) if there is one tomogram and one species.  The matrix's rotation goes from the
reference to the tomogram; `trust_orientation` says whether there are any.

A project may hold picks of one object and run by several users or in several sessions, which are different answers to one question: they
are not joined, the caller chooses.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from tomostream.errors import InputError
from tomostream.formats import copick_project
from tomostream.formats.conversion import Conversion
from tomostream.formats.copick_project import PICKS, RUNS
from tomostream.formats.format_option import FormatOption, plain_text
from tomostream.formats.registry import file_name, refuse_shared
from tomostream.formats.table_format import TableFormat
from tomostream.formats.text_files import json_number, parse_json, read_text, what_is_wrong
from tomostream.orientations import are_rotations, or_identity
from tomostream.particles import Particles
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.places import Place
from tomostream.store.naming import listed_tomogram

USER, SESSION = "tomostream", "0"
USER_OPTION = FormatOption(name="user", metavar="USER", help="Only this user's picks of a project.", parse=plain_text, writes=False)
SESSION_OPTION = FormatOption(
    name="session", metavar="SESSION", help="Only this session's picks of a project.", parse=plain_text, writes=False
)
_IDENTITY = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]


def read(path: Path, conversion: Conversion) -> Particles:
    """Read one JSON file, all picks below a copick folder, or those of a project's file.

    Raises
    ------
    InputError
        If a file is no copick picks file, or several users or sessions picked one object in one run and none is chosen.
    """
    if (project := copick_project.read_project(str(path))) is not None:
        user, session = conversion.given(USER_OPTION), conversion.given(SESSION_OPTION)
        return _joined([Path(file) for file in copick_project.picks(project, f"*:{user or '*'}/{session or '*'}")], conversion)
    if not path.is_dir():
        return _read_file(path, conversion)
    files = sorted(path.glob("*.json") if path.name == PICKS else path.glob(f"**/{PICKS}/*.json"))
    if not files:
        raise InputError(f"{path} holds no copick picks (ExperimentRuns/RUN/{PICKS}/*.json)")
    chosen = [file for file in files if _is_chosen(file, conversion)]
    if not chosen:
        known = ", ".join(dict.fromkeys(f"{user} (session {session})" for user, session, _ in map(_parts, files)))
        asked = " ".join(
            f"{option.flag} {value}" for option in (USER_OPTION, SESSION_OPTION) if (value := conversion.given(option)) is not None
        )
        raise InputError(f"{path} holds no picks of {asked}; it has those of {known}")
    holder: dict[tuple[str, str], Path] = {}
    for file in chosen:
        run, name = file.parent.parent.name, _parts(file)[2]
        if (other := holder.setdefault((run, name), file)) is not file:
            raise InputError(
                f"{other} and {file} both hold picks of '{name}' in run '{run}', by different users or sessions; choose one with --user USER "
                "(and --session SESSION)"
            )
    return _joined(chosen, conversion)


def _joined(files: list[Path], conversion: Conversion) -> Particles:
    """Read files of different runs and objects; what they hold decides, for their names may say otherwise."""
    holder: dict[tuple[str, str], Place] = {}
    parts = []
    for file in files:
        parts.append(part := _read_file(file, conversion))
        refuse_shared(holder, file, part)
    return Particles.concatenate(parts)


def _parts(file: Path) -> tuple[str, str, str]:
    """Return user, session and object of a file's name; a name of another form is all object."""
    parts = file.stem.split("_", 2)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else ("", "", file.stem)


def _is_chosen(file: Path, conversion: Conversion) -> bool:
    user, session, _ = _parts(file)
    return conversion.given(USER_OPTION) in (None, user) and conversion.given(SESSION_OPTION) in (None, session)


def _read_file(path: Path, conversion: Conversion) -> Particles:
    try:
        values: dict[str, Any] = parse_json(read_text(path))
        points = values["points"] or []
        rows = [[json_number(point["location"][axis]) for axis in ("z", "y", "x")] for point in points]
        placed = np.array([_matrix(point.get("transformation_")) for point in points]).reshape(-1, 4, 4)
        scores = [json_number(point["score"]) if point.get("score") is not None else math.nan for point in points]
        species, run = values["pickable_object_name"], values.get("run_name")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path} is not a copick picks file: {what_is_wrong(error)}") from None
    for name, value in (("pickable_object_name", species), ("run_name", run)):
        if not isinstance(value, str | None):
            raise InputError(f"{path}: {name} must be a name, found {value!r:.80}")
    unit = values.get("unit", "angstrom")
    if unit != "angstrom":
        raise InputError(f"{path}: its unit is '{unit}'; copick uses angstrom")
    folder = path.parent.parent.name if path.parent.name == PICKS else ""
    if folder and run and listed_tomogram(run) != folder:  # copied from another run, or the run was renamed: copick goes by the folder
        conversion.progress.warn(
            f"{path}: its run_name is '{run}', but it lies in the folder of run '{folder}', which is taken, as copick does"
        )
        run = folder
    name = run or conversion.tomogram or folder
    positions = np.array(rows).reshape(-1, 3) + placed[:, 2::-1, 3]
    turned = placed[:, :3, :3]
    if not (good := are_rotations(turned)).all():
        conversion.progress.warn(
            f"{path}: {np.count_nonzero(~good)} matrices hold no rotation; the orientations of these points are left out"
        )
        turned = np.where(good[:, None, None], turned, np.nan)
    rotation = None if values.get("trust_orientation") is False else turned
    return Particles.build(positions, unit="angstrom", tomogram=name, species=species or "", score=scores, rotation=rotation)


def _matrix(matrix: Any) -> list[list[float]]:
    if matrix is None:
        return _IDENTITY
    table = [[json_number(value) for value in row] for row in matrix]
    if [len(row) for row in table] != [4, 4, 4, 4] or table[3] != [0.0, 0.0, 0.0, 1.0]:
        raise ValueError("transformation_ must be 4 x 4 numbers, the last row 0 0 0 1")
    return table


def write(path: Path, particles: Particles, conversion: Conversion) -> None:
    """Write one file, or one per tomogram and species below a folder.

    Raises
    ------
    InputError
        If one file is asked for and there are several tomograms or species, two species have one name in copick, or a name can't be a
        folder's.
    """
    found = conversion.written_in(particles, "angstrom", "copick")
    objects = _objects(found.species_names(), conversion)
    groups = [(name, kind, rows) for name, here in found.by_tomogram() for kind, rows in here.by_species()]
    if (project := copick_project.read_project(str(path))) is not None:
        if not isinstance(project.overlay, Path):
            raise InputError(f"{path}: its overlay_root is {project.overlay}; export into a folder, and copy that there")
        path = project.overlay
    elif path.suffix == ".json":
        if len(groups) > 1:
            raise InputError(f"{path}: a copick file holds one tomogram and one species, but there are {len(groups)} pairs; give a folder")
        name, kind, rows = groups[0] if groups else ("", "", found)
        _write_file(path, rows, name, objects.get(kind, "particle"))
        return
    files = [
        (path / RUNS / file_name(name, "tomogram") / PICKS / f"{USER}_{SESSION}_{objects[kind]}.json", rows, name, kind)
        for name, kind, rows in groups
    ]
    for target, rows, name, kind in files:  # only now: all names are known to be good
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_file(target, rows, name, objects[kind])


def _objects(species: list[str], conversion: Conversion) -> dict[str, str]:
    """Rename the species as copick requires: letters, digits, points and dashes."""
    objects = {kind: re.sub(r"[^A-Za-z0-9.-]+", "-", kind) or "particle" for kind in species}
    holder: dict[str, str] = {}
    for kind, name in objects.items():
        if (other := holder.setdefault(name, kind)) is not kind:
            raise InputError(
                f"species '{other}' and '{kind}' would both become '{name}' in copick, whose names have no blanks or underscores; rename one"
            )
    if changed := [f"'{kind}' is '{name}'" for kind, name in objects.items() if kind != name]:
        conversion.progress.say(f"renamed for copick: {', '.join(changed)}")
    return objects


def _write_file(path: Path, particles: Particles, name: str, object_name: str) -> None:
    turned = np.tile(np.eye(4), (len(particles), 1, 1))
    turned[:, :3, :3] = or_identity(particles.rotation, len(particles))
    rows = zip(particles.position_zyx.tolist(), particles.score.tolist(), turned.tolist(), strict=True)
    values = {
        "pickable_object_name": object_name,
        "user_id": USER,
        "session_id": SESSION,
        "run_name": name,
        "voxel_spacing": None,
        "unit": "angstrom",
        "points": [
            {
                "location": {"x": x, "y": y, "z": z},
                "transformation_": matrix,
                "instance_id": 0,
                "score": None if math.isnan(score) else score,
            }
            for (z, y, x), score, matrix in rows
        ],
        "trust_orientation": particles.rotation is not None,
    }
    write_atomically(path, json.dumps(values, indent=1))


FORMAT = TableFormat(
    read=read,
    write=write,
    ending=".json",
    known_by=(".json",),
    recognises=copick_project.is_project_folder,
    whole_folders=True,
    listed_tables=copick_project.listed_picks,
    listed_volumes=copick_project.listed_tomograms,
    options=(USER_OPTION, SESSION_OPTION),
)
