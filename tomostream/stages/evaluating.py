"""`evaluate`: tables of picks against tables of truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tomostream.errors import InputError
from tomostream.evaluation import Evaluation, evaluate_tables
from tomostream.formats.registry import Conversion, read_table
from tomostream.particles import Particles, Unit
from tomostream.stages.digest import write_text_atomically
from tomostream.stages.points import table_paths
from tomostream.units import Length

if TYPE_CHECKING:
    from tomostream.tomogram import Tomogram


def conversion_from(tomograms: Sequence[str], voxel_size: float | None, **others: object) -> Conversion:
    """Gather spacings and shapes from stores, and one spacing for the rest.

    Raises
    ------
    InputError
        If a store can't be opened.
    """
    opened: list[Tomogram] = []
    if tomograms:
        from tomostream.tomogram import open_tomogram

        opened = [open_tomogram(path) for path in tomograms]
    return Conversion(
        spacings={t.name: t.spacing for t in opened},
        shapes={t.name: t.shape for t in opened},
        spacing=voxel_size,
        **others,  # type: ignore[arg-type]  # the caller's keywords are Conversion's own fields
    )


def read_scored(path: str | Path) -> tuple[Particles, list[str]]:
    """Read the picks of a file or folder; returns them with the names of the tomograms that are scored.

    A table that is empty counts too: it says that nothing was found in the tomogram that its file names.

    Raises
    ------
    InputError
        If there is no table, or one is broken.
    """
    parts: list[Particles] = []
    names: list[str] = []
    for table in table_paths(path):
        part = read_table(table)
        if len(part) == 0:
            names.append(table.stem)
            continue
        if "" in part.tomograms():
            part = part.named(tomogram=table.stem)
        names.extend(part.tomograms())
        parts.append(part)
    return _join(parts), list(dict.fromkeys(names))


def _join(parts: list[Particles]) -> Particles:
    units = {part.unit for part in parts}
    if len(units) > 1:
        raise InputError("some of these tables are in voxels, some in angstrom; give them in one unit")
    return Particles.concatenate(parts)


def read_truth(path: str | Path, scored: Sequence[str]) -> Particles:
    """Read the truth of a file or folder; rows without tomogram are the only scored one's.

    Raises
    ------
    InputError
        If a table is broken, or rows without tomogram can't be assigned.
    """
    known = _join([read_table(table) for table in table_paths(path)])
    if "" in known.tomograms():
        if len(scored) != 1:
            raise InputError(
                f"truth {path} has rows without tomogram, and several tomograms are scored ({', '.join(scored)}); add a column 'tomogram'"
            )
        known = known.named(tomogram=scored[0])
    return known


def evaluate_particles(
    picks: Particles,
    truth: Particles,
    *,
    names: Sequence[str],
    tolerance: Length,
    species: Sequence[str] | None,
    matching: str,
    beta: float,
    conversion: Conversion,
    with_curve: bool = False,
) -> Evaluation:
    """Score the tomograms `names`, in the unit of the tolerance; truth of other tomograms is reported and not counted.

    Raises
    ------
    InputError
        If the units can't be converted, or the species is not said and can't be known.
    """
    unit: Unit = "voxel" if tolerance.is_voxels else "angstrom"
    why = f"a tolerance of {tolerance}"
    here = truth.select(np.isin(truth.tomogram.astype(str), list(names)))
    return evaluate_tables(
        conversion.to_unit(picks, unit, why),
        conversion.to_unit(here, unit, why),
        tolerance=tolerance.value,
        tomograms=list(names),
        unscored=[name for name in truth.tomograms() if name not in set(names)],
        species=species,
        matching=matching,
        beta=beta,
        with_curve=with_curve,
    )


def evaluate_files(
    picks: str | Path,
    truth: str | Path,
    *,
    tolerance: Length,
    species: Sequence[str] | None,
    matching: str,
    beta: float,
    conversion: Conversion,
    with_curve: bool = False,
) -> Evaluation:
    """Score picks (a file or folder) against truth (a file or folder).

    Raises
    ------
    InputError
        If a table is broken, the units can't be converted, or the species is not said and can't be known.
    """
    found, names = read_scored(picks)
    known = read_truth(truth, names)
    return evaluate_particles(
        found,
        known,
        names=names,
        tolerance=tolerance,
        species=species,
        matching=matching,
        beta=beta,
        conversion=conversion,
        with_curve=with_curve,
    )


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write `evaluation.json`."""
    write_text_atomically(path, json.dumps(evaluation.to_json(), indent=1) + "\n")


def write_curve(path: Path, evaluation: Evaluation) -> None:
    """Write precision and recall over the score, one row a threshold, as CSV."""
    rows = ["species,threshold,precision,recall"]
    for species, curve in evaluation.curves.items():
        rows += [
            f"{species},{t!r},{p!r},{r!r}"
            for t, p, r in zip(curve.threshold.tolist(), curve.precision.tolist(), curve.recall.tolist(), strict=True)
        ]
    write_text_atomically(path, "\n".join(rows) + "\n")
