"""`evaluate`: tables of picks against tables of truth."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from tomostream.evaluation import Evaluation, evaluate_tables
from tomostream.formats.registry import Conversion
from tomostream.particles import Particles, Unit
from tomostream.remote.atomic_files import write_text_atomically
from tomostream.remote.places import Place, place
from tomostream.stages.tables.stage import read_scored, read_truth
from tomostream.units import Length


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
    picks: str | Place,
    truth: str | Place,
    *,
    tolerance: Length,
    species: Sequence[str] | None,
    matching: str,
    beta: float,
    conversion: Conversion,
    with_curve: bool = False,
    headerless: Conversion | None = None,
    picks_format: str | None = None,
    truth_format: str | None = None,
) -> Evaluation:
    """Score picks (a file or folder) against truth (a file or folder), each in our or another software's format.

    `headerless` tells the columns and unit of truth without header, `conversion.tomogram` the tomogram of picks whose file tells another.

    Raises
    ------
    InputError
        If a table is broken, the units can't be converted, or the species is not said and can't be known.
    """
    found, names = read_scored(picks, conversion, format_name=picks_format)
    known = read_truth(truth, names, headerless or conversion, format_name=truth_format)
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


def write_evaluation(path: Place, evaluation: Evaluation) -> None:
    """Write `evaluation.json`."""
    write_text_atomically(place(path), json.dumps(evaluation.to_json(), indent=1) + "\n")


def write_curve(path: Place, evaluation: Evaluation) -> None:
    """Write precision and recall over the score, one row a threshold, as CSV."""
    rows = ["species,threshold,precision,recall"]
    for species, curve in evaluation.curves.items():
        rows += [
            f"{species},{t!r},{p!r},{r!r}"
            for t, p, r in zip(curve.threshold.tolist(), curve.precision.tolist(), curve.recall.tolist(), strict=True)
        ]
    write_text_atomically(place(path), "\n".join(rows) + "\n")
