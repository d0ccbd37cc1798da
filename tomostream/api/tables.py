"""Functions on tables of particles: evaluate, read, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomostream import defaults
from tomostream.api.sources import as_particles, checked_path, table_or_path
from tomostream.errors import InputError
from tomostream.particles import Particles
from tomostream.pick_records import PickRecords
from tomostream.python_words import PythonProgress, speaks_python
from tomostream.remote.places import RemotePath
from tomostream.units import Length

if TYPE_CHECKING:
    import pandas as pd

    from tomostream.evaluation import Evaluation
    from tomostream.formats.registry import Conversion


@speaks_python
def evaluate(
    picks: str | Path | RemotePath | Particles | pd.DataFrame | PickRecords,
    truth: str | Path | RemotePath | Particles | pd.DataFrame,
    *,
    tolerance: str = defaults.TOLERANCE,
    species: str | Sequence[str] | None = None,
    matching: str = defaults.MATCHING,
    beta: float = 1.0,
    voxel_size: float | None = None,
    tomograms: Sequence[str | Path | RemotePath] = (),
) -> Evaluation:
    """Evaluate picks against truth: counts, precision, recall and F, per tomogram and pooled.

    Parameters
    ----------
    picks, truth
        `Particles`, data frames with the columns of our CSV, or files or folders of tables.  Picks may be those of an array, `ts.pick(array, ...)`,
        if the truth is a table of one tomogram.
    tolerance
        Largest distance of a match, for example `10vox` or `135A`.
    species
        Name or names of the species to evaluate; None: all in the picks.
    matching
        `any`, the TomoPicker paper's rule, or `one-to-one`.
    beta
        Weight of recall in F-beta.
    voxel_size, tomograms
        Voxel size in angstrom, or stores that give it; needed if units must be converted.

    Raises
    ------
    InputError
        If the units can't be converted, or the species can't be known.
    """
    from tomostream.stages.evaluation.stage import EvaluateSettings, evaluate_particles
    from tomostream.stages.shared.particle_tables import conversion_from, read_scored, read_truth, truth_of

    conversion = replace(conversion_from([str(path) for path in tomograms], voxel_size), progress=PythonProgress())
    if isinstance(picks, PickRecords):
        truth = as_particles(truth, "the truth of an array's picks")
        found = _of_array(picks, truth)
        names = truth.tomograms() or found.tomograms()
    elif isinstance(scored := table_or_path(picks, "picks"), Particles):
        found, names = scored, scored.tomograms()
    else:
        found, names = read_scored(scored, conversion)
    true = table_or_path(truth, "truth")
    known = truth_of(true, names, "the truth") if isinstance(true, Particles) else read_truth(true, names, conversion)
    if voxel_size is None:  # use the voxel spacings that `pick` wrote into the tables, for both of them
        conversion = replace(conversion, spacings={**known.spacings, **found.spacings, **conversion.spacings})
    names_of_species = [species] if isinstance(species, str) else species
    settings = EvaluateSettings(tolerance=Length.parse(tolerance, "tolerance"), species=names_of_species, matching=matching, beta=beta)
    return evaluate_particles(found, known, settings, names=names, conversion=conversion)


def _of_array(picks: PickRecords, truth: Particles) -> Particles:
    """Return picks of an array as particles of the tomogram, and the species, that the truth names."""
    tomograms, species = truth.tomograms(), truth.species_names()
    if len(tomograms) > 1:
        raise InputError(
            f"picks of an array are of one tomogram, but the truth is of {', '.join(tomograms)}; take that of one: truth.of(tomogram={tomograms[0]!r})"
        )
    if len(species) > 1:
        raise InputError(
            f"picks of an array are of one species, but the truth is of {', '.join(species)}; take that of one: truth.of(species={species[0]!r})"
        )
    name, kind = (tomograms or [""])[0], (species or [""])[0]
    return Particles.build(picks.index_zyx.astype(np.float64), unit="voxel", tomogram=name, species=kind, score=picks.score)


@speaks_python
def read_particles(path: str | Path | RemotePath, *, format: str | None = None, **facts: Any) -> Particles:
    """Read a table of particles in any known format.

    Parameters
    ----------
    path
        A file, or a folder of files.
    format
        Name of the format, as for `--format`; None: recognised by the ending.
    facts
        What a format may need to know, named like the options of the command line: `voxel_size` (angstrom), `shape` (z, y, x), `tomograms`
        (stores that give both), `tomogram`, `species` (names), `columns` and `unit` ("voxel" or "angstrom") of a table without header; and
        options of single formats, such as `unbinned_pixel_size`, `binning`, or `user` and `session` of a copick project.

    Raises
    ------
    InputError
        If the file is broken, or a fact is missing that the format needs.
    """
    from tomostream.formats.registry import read_table

    conversion = _conversion(facts)
    found = read_table(checked_path(path, "path"), format_name=format, conversion=conversion)
    known = {name: spacing for name in found.tomograms() if (spacing := conversion.known_spacing(name)) is not None}
    return replace(found, spacings={**found.spacings, **known})  # so that they can be evaluated without saying it again


@speaks_python
def write_particles(path: str | Path | RemotePath, particles: Particles | pd.DataFrame, *, format: str | None = None, **facts: Any) -> None:
    """Write a table of particles in any known format.

    Parameters
    ----------
    path
        The file; or, if it ends with `/`, a folder that gets one file per tomogram.
    particles
        The particles to write; or a data frame with the columns of our CSV.
    format
        Name of the format, as for `--format`; None: recognised by the ending.
    facts
        See `read_particles`; also `box_size`, for example `"32vox"`.

    Raises
    ------
    InputError
        If the file can't be written, or a fact is missing that the format needs.
    """
    from tomostream.formats.registry import write_table

    checked_path(path, "path")
    write_table(path, as_particles(particles, "particles"), format_name=format, conversion=_conversion(facts))


_FACTS = ("shape", "tomogram", "species", "columns", "unit")  # facts that any format may use; the names of the options


def _conversion(facts: dict[str, Any]) -> Conversion:
    """Collect the facts given by keywords, those that are options of single formats included."""
    from tomostream.formats.catalogued import format_options
    from tomostream.formats.registry import Conversion
    from tomostream.stages.shared.particle_tables import conversion_from

    stores = [str(path) for path in facts.pop("tomograms", ())]
    spacing = facts.pop("voxel_size", facts.pop("spacing", None))  # by either name
    if "unbinned_pixel" in facts:  # its name in version 0.1
        facts["unbinned_pixel_size"] = facts.pop("unbinned_pixel")
    own = {option.name: option for option in format_options()}
    if unknown := sorted(set(facts) - set(_FACTS) - set(own)):
        raise InputError(f"'{unknown[0]}' is not a known keyword; known are {', '.join(['voxel_size', 'tomograms', *_FACTS, *own])}")
    named = {name: value for name, value in facts.items() if name in _FACTS}
    options = {
        name: own[name].parse(str(value), name) if isinstance(value, str | int | float) else value
        for name, value in facts.items()
        if name in own and value is not None
    }
    named |= {"options": options, "progress": PythonProgress()}
    return conversion_from(stores, spacing, **named) if stores else Conversion(spacing=spacing, **named)
