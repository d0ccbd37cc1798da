"""Functions on tables of particles: evaluate, read, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.particles import Particles
from tomostream.python_words import PythonProgress, speaks_python
from tomostream.remote.places import RemotePath
from tomostream.units import Length

if TYPE_CHECKING:
    from tomostream.evaluation import Evaluation
    from tomostream.formats.registry import Conversion


@speaks_python
def evaluate(
    picks: str | Path | RemotePath | Particles,
    truth: str | Path | RemotePath | Particles,
    *,
    tolerance: str = defaults.TOLERANCE,
    species: Sequence[str] | None = None,
    matching: str = defaults.MATCHING,
    beta: float = 1.0,
    voxel_size: float | None = None,
    tomograms: Sequence[str | Path | RemotePath] = (),
) -> Evaluation:
    """Score picks against truth: counts, precision, recall, F per tomogram and pooled.

    Parameters
    ----------
    picks, truth
        Tables, or files or folders of them.
    tolerance
        Distance for a match, as `10vox` or `135A`.
    species
        To score; None: all in the picks.
    matching
        `any`, the paper's rule, or `one-to-one`.
    beta
        Weight of recall in F-beta.
    voxel_size, tomograms
        Angstrom, or stores that say it, where units must be converted.

    Raises
    ------
    InputError
        If the units can't be converted, or the species can't be known.
    """
    from tomostream.stages.evaluation.stage import EvaluateSettings, evaluate_particles
    from tomostream.stages.shared.particle_tables import conversion_from, read_scored, read_truth, truth_of

    conversion = replace(conversion_from([str(path) for path in tomograms], voxel_size), progress=PythonProgress())
    found, names = (picks, picks.tomograms()) if isinstance(picks, Particles) else read_scored(picks, conversion)
    known = truth_of(truth, names, "the truth") if isinstance(truth, Particles) else read_truth(truth, names, conversion)
    if voxel_size is None:  # what `pick` knew of the voxels serves both tables
        conversion = replace(conversion, spacings={**known.spacings, **found.spacings, **conversion.spacings})
    settings = EvaluateSettings(tolerance=Length.parse(tolerance, "tolerance"), species=species, matching=matching, beta=beta)
    return evaluate_particles(found, known, settings, names=names, conversion=conversion)


@speaks_python
def read_particles(path: str | Path | RemotePath, *, format: str | None = None, **facts: Any) -> Particles:
    """Read a table of particles of any known format.

    Parameters
    ----------
    path
        A file, or a folder of them.
    format
        As the command line names it; None: from the ending.
    facts
        What a format may need to know, called as the options are: `voxel_size` (angstrom), `shape` (z, y, x), `tomograms` (stores that tell both),
        `tomogram`, `species` (names), `columns` and `unit` ("voxel" or "angstrom") of a table without header; and the formats' own, as
        `unbinned_pixel_size`, `binning`, `user` and `session` of a copick project.

    Raises
    ------
    InputError
        If the file is broken, or a fact is missing that the format needs.
    """
    from tomostream.formats.registry import read_table

    return read_table(path, format_name=format, conversion=_conversion(facts))


@speaks_python
def write_particles(path: str | Path | RemotePath, particles: Particles, *, format: str | None = None, **facts: Any) -> None:
    """Write a table of particles in any known format; a path that ends with `/` is a folder of one file a tomogram.

    Parameters
    ----------
    path
        The file or folder.
    particles
        What is written.
    format
        As the command line names it; None: from the ending.
    facts
        See `read_particles`; and `box_size`, as `"32vox"`.

    Raises
    ------
    InputError
        If the file can't be written, or a fact is missing that the format needs.
    """
    from tomostream.formats.registry import write_table

    write_table(path, particles, format_name=format, conversion=_conversion(facts))


_FACTS = ("shape", "tomogram", "species", "columns", "unit")  # of every format, as the options are called


def _conversion(facts: dict[str, Any]) -> Conversion:
    """What is given by keywords; those of formats' own options are called as they are."""
    from tomostream.formats.catalogued import format_options
    from tomostream.formats.registry import Conversion
    from tomostream.stages.shared.particle_tables import conversion_from

    stores = [str(path) for path in facts.pop("tomograms", ())]
    spacing = facts.pop("voxel_size", facts.pop("spacing", None))  # by either name
    own = {option.name: option for option in format_options()}
    if unknown := sorted(set(facts) - set(_FACTS) - set(own)):
        raise InputError(f"{unknown[0]}: no fact of that name; known are {', '.join(['voxel_size', 'tomograms', *_FACTS, *own])}")
    named = {name: value for name, value in facts.items() if name in _FACTS}
    options = {
        name: own[name].parse(str(value), name) if isinstance(value, str | int | float) else value
        for name, value in facts.items()
        if name in own and value is not None
    }
    named |= {"options": options, "progress": PythonProgress()}
    return conversion_from(stores, spacing, **named) if stores else Conversion(spacing=spacing, **named)
