"""`evaluate`: tables of picks against tables of truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tomostream import defaults
from tomostream.evaluation import Evaluation, ScoringRules, evaluate_tables
from tomostream.formats.registry import Conversion
from tomostream.particles import Particles, Unit
from tomostream.remote.atomic_files import write_atomically
from tomostream.remote.places import Place, place
from tomostream.stages.shared.particle_tables import read_scored, read_truth
from tomostream.units import Length


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSettings:
    """The rules of scoring; see `tomostream.evaluation.ScoringRules`."""

    tolerance: Length
    species: Sequence[str] | None = None
    matching: str = defaults.MATCHING
    beta: float = 1.0
    with_curve: bool = False

    @property
    def unit(self) -> Unit:
        """The unit in which positions are compared: the tolerance's."""
        return "voxel" if self.tolerance.is_voxels else "angstrom"

    @property
    def rules(self) -> ScoringRules:
        """Return the rules for tables in that unit."""
        return ScoringRules(
            tolerance=self.tolerance.value, species=self.species, matching=self.matching, beta=self.beta, with_curve=self.with_curve
        )


def evaluate_particles(
    picks: Particles, truth: Particles, settings: EvaluateSettings, *, names: Sequence[str], conversion: Conversion
) -> Evaluation:
    """Score the tomograms `names`, in the unit of the tolerance; truth of other tomograms is reported and not counted.

    Raises
    ------
    InputError
        If the units can't be converted, or the species is not said and can't be known.
    """
    why = f"a tolerance of {settings.tolerance}"
    picks, truth = picks.positives(), truth.positives()  # rows labelled 0 are places that are no particles
    here = truth.select(np.isin(truth.tomogram.astype(str), list(names)))
    return evaluate_tables(
        conversion.to_unit(picks, settings.unit, why),
        conversion.to_unit(here, settings.unit, why),
        rules=settings.rules,
        tomograms=list(names),
        unscored=[name for name in truth.tomograms() if name not in set(names)],
    )


def evaluate_files(
    picks: str | Place,
    truth: str | Place,
    settings: EvaluateSettings,
    *,
    conversion: Conversion,
    headerless: Conversion | None = None,
    picks_format: str | None = None,
    truth_format: str | None = None,
) -> Evaluation:
    """Compare picks (a file or folder) with the truth (a file or folder), each in any known format.

    `headerless`: columns and unit of a truth table without header; `conversion.tomogram`: name of the picks' tomogram, instead of the file's.

    Raises
    ------
    InputError
        If a table is broken, the units can't be converted, or the species is not said and can't be known.
    """
    found, names = read_scored(picks, conversion, format_name=picks_format)
    known = read_truth(truth, names, headerless or conversion, format_name=truth_format)
    return evaluate_particles(found, known, settings, names=names, conversion=conversion)


def write_evaluation(path: Place, evaluation: Evaluation) -> None:
    """Write `evaluation.json`."""
    write_atomically(place(path), json.dumps(evaluation.to_json(), indent=1) + "\n")


def write_curve(path: Place, evaluation: Evaluation) -> None:
    """Write precision and recall as CSV, one row per score threshold."""
    rows = ["species,threshold,precision,recall"]
    for species, curve in evaluation.curves.items():
        rows += [
            f"{species},{t!r},{p!r},{r!r}"
            for t, p, r in zip(curve.threshold.tolist(), curve.precision.tolist(), curve.recall.tolist(), strict=True)
        ]
    write_atomically(place(path), "\n".join(rows) + "\n")
