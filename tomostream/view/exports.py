"""How are picks exported to other software?  In every format of `tomostream export`, into the project's folder `export/`.

The best picks up to the count or threshold that the slider shows, less what was rejected, of one species and of the tomograms chosen.
If a format holds one tomogram per file, a folder is written, and sent to the browser as a ZIP.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from tomostream.errors import InputError
from tomostream.formats.registry import FORMATS, Conversion, write_table
from tomostream.geometry import triple
from tomostream.particles import Particles
from tomostream.view.clicks import Click
from tomostream.view.picks import PickTables
from tomostream.view.workspace import Workspace

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,120}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportWish:
    """A request for an export.

    Parameters
    ----------
    format_name
        Of `tomostream export`.
    species
        One.
    tomograms
        By name.
    source
        `picks`, or `clicks` (those with label 1).
    count, threshold
        Of each tomogram's picks, the best so many, and those with at least this score; None: those that `pick` chose, or no bound.
    options
        Options of the format (`formats.format_option`) as text, by name.
    """

    format_name: str
    species: str
    tomograms: Sequence[str]
    source: str = "picks"
    count: int | None = None
    threshold: float | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def export(workspace: Workspace, tables: PickTables, clicks: Sequence[Click], wish: ExportWish) -> tuple[Path, int]:
    """Write the file or folder; return its path and its number of particles.

    Raises
    ------
    InputError
        If the format is unknown or needs what is not given, or there is nothing to export.
    """
    if wish.format_name not in FORMATS:
        raise InputError(f"format '{wish.format_name[:40]}' is unknown; known are {', '.join(FORMATS)}")
    if not _NAME.match(wish.species):
        raise InputError(f"species '{wish.species[:40]}' can't be part of a file name; rename it")
    parts = [_of_tomogram(workspace, tables, clicks, wish, name) for name in wish.tomograms]
    particles = Particles.concatenate(part for part in parts if len(part))
    if len(particles) == 0:
        raise InputError(f"there is no {wish.species} to export; pick first, or lower the threshold")
    conversion = _conversion(workspace, particles.tomograms(), wish)
    form = FORMATS[wish.format_name]
    is_folder = form.whole_folders or (form.one_tomogram and len(particles.tomograms()) > 1)
    stem = f"{wish.species}_{wish.source}"
    ending = form.ending if form.ending == f".{wish.format_name}" else f".{wish.format_name}{form.ending}"  # .csv, not .csv.csv
    folder = workspace.inside("export")
    folder.mkdir(parents=True, exist_ok=True)
    # made in a folder of its own, then put in place: the last export stays whole if this one fails
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder) as making:
        inner = Path(making) / f"{stem}.{wish.format_name}"
        inner.mkdir()
        made = f"{inner}/" if is_folder else inner / f"{stem}{form.ending}"
        write_table(made, particles, format_name=wish.format_name, conversion=conversion)
        files = list(inner.iterdir())
        # some formats write a second file, as Dynamo's map of the tomograms' names: then the folder is what leaves
        whole = inner if is_folder or len(files) > 1 or files[0].is_dir() else files[0]
        target = workspace.inside("export", whole.name if whole is inner else f"{stem}{ending}")
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        whole.replace(target)
    return target, len(particles)


def exported(workspace: Workspace) -> dict[str, Path]:
    """Return the exported files by name."""
    folder = workspace.inside("export")
    if not folder.is_dir():
        return {}
    return {path.name: path for path in sorted(folder.iterdir()) if _NAME.match(path.name) and not path.is_symlink()}


def packed(path: Path, workspace: Workspace) -> Path:
    """Return a file for the browser: the file itself, or a ZIP of the folder."""
    if path.is_file():
        return path
    made = shutil.make_archive(str(workspace.own(path.name)), "zip", root_dir=path.parent, base_dir=path.name)
    return Path(made)


def _of_tomogram(workspace: Workspace, tables: PickTables, clicks: Sequence[Click], wish: ExportWish, name: str) -> Particles:
    workspace.entry(name)
    if wish.source == "clicks":
        mine = [click for click in clicks if (click.tomogram, click.species, click.label) == (name, wish.species, 1)]
        positions = np.array([(click.z, click.y, click.x) for click in mine]).reshape(-1, 3)
        return Particles.build(positions, unit="angstrom", tomogram=name, species=wish.species)
    found = tables.picks(name, wish.species)
    if found is None:
        return Particles.build(np.empty((0, 3)), unit="angstrom")
    picks = found.particles
    if wish.threshold is not None:
        picks = picks.select(picks.score >= wish.threshold)
    if wish.count is not None:
        picks = picks.select(np.arange(min(wish.count, len(picks))))
    if wish.threshold is None and wish.count is None:
        picks = picks.select(np.arange(found.chosen))
    near = max(0.5, _radius(workspace, wish.species, name) / 2)
    return _without_rejected(
        picks, near, [click for click in clicks if (click.tomogram, click.species, click.label) == (name, wish.species, 0)]
    )


def _radius(workspace: Workspace, species: str, name: str) -> float:
    """Return the radius of a species, angstrom; 0 if it is unknown."""
    found = [] if workspace.configuration is None else [one for one in workspace.configuration.species if one.name == species]
    spacing = workspace.spacing_of(name)
    return found[0].radius.in_angstrom(spacing) if found and spacing is not None else 0.0


def _without_rejected(picks: Particles, near: float, rejected: Sequence[Click]) -> Particles:
    """Leave out picks within `near` (angstrom) of places that the user rejected."""
    if not rejected or len(picks) == 0:
        return picks
    places = cKDTree(np.array([(click.z, click.y, click.x) for click in rejected]))
    nearest, _ = places.query(picks.position_zyx)
    return picks.select(np.flatnonzero(nearest > near))


def _conversion(workspace: Workspace, names: Sequence[str], wish: ExportWish) -> Conversion:
    opened = {name: workspace.tomogram(name).at_level(0) for name in names if workspace.entry(name).is_converted}
    taken = {option.name: option for option in FORMATS[wish.format_name].options if option.writes}
    if unknown := [name for name in wish.options if name not in taken]:
        raise InputError(f"format '{wish.format_name}' has no option '{unknown[0][:40]}'; it has {', '.join(taken) or 'none'}")
    return Conversion(
        spacings={name: tomogram.spacing for name, tomogram in opened.items()},
        shapes={name: triple(tomogram.shape) for name, tomogram in opened.items()},
        options={name: taken[name].parse(text, taken[name].flag) for name, text in wish.options.items()},
    )
