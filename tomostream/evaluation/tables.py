"""Evaluate the picks of a data set by tomogram and species, and pooled.

1. Decide which species of the picks is compared with which of the truth, since a table need not name them (`compared_species`).
2. Score all tomograms that were picked, also those without any pick.  Other tomograms with truth are listed, not counted.
3. Pool counts as sums over tomograms and species, never as means of ratios.

Limits: the positions of both tables must be in the same unit; the caller converts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tomostream.errors import InputError
from tomostream.evaluation.answer import EvaluationAnswer, TomogramsAnswer
from tomostream.evaluation.counts import Scores
from tomostream.evaluation.curves import Curve, events_of, pooled_curve
from tomostream.evaluation.matching import match
from tomostream.particles import Particles

UNNAMED_SPECIES = frozenset({"", "particle"})  # names in a table that does not know its species
_DEFAULT_NAME = "particle"


@dataclass(frozen=True, slots=True)
class SpeciesEvaluation:
    """The counts of one species, by tomogram."""

    tomograms: Mapping[str, Scores]

    @property
    def pooled(self) -> Scores:
        """The counts of all tomograms together."""
        return sum(self.tomograms.values(), Scores(0, 0, 0))

    def to_json(self, *, beta: float) -> TomogramsAnswer:
        """Return `{"pooled": {...}, "tomograms": {NAME: {...}}}`."""
        return {
            "pooled": self.pooled.to_json(beta=beta),
            "tomograms": {name: scores.to_json(beta=beta) for name, scores in self.tomograms.items()},
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of an evaluation.

    Parameters
    ----------
    species
        The counts by species.
    beta
        Weight of recall in F-beta.
    unscored
        Tomograms with truth that were not picked; they are not counted.
    without_truth
        Tomograms that were picked and have no truth; all their picks count as false.
    curves
        By species, pooled over the tomograms; empty unless asked for.
    picks
        Number of picks; under `any` not always `tp + fp`, see `note`.
    without_species
        Species that were picked and have no truth; they are not counted.
    """

    species: Mapping[str, SpeciesEvaluation]
    beta: float
    unscored: tuple[str, ...] = ()
    without_truth: tuple[str, ...] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    picks: int = 0
    without_species: tuple[str, ...] = ()

    @property
    def note(self) -> str | None:
        """A sentence on why the number of picks is not tp + fp, which can happen under `any`; else None."""
        counted = self.pooled.tp + self.pooled.fp
        if self.picks == counted:
            return None
        more = self.picks - counted
        why = (
            f"{more} more are near a particle that another pick has found"
            if more > 0
            else f"{-more} particles were found by a pick that had already found another"
        )
        return f"{self.picks} picks: {self.pooled.tp} particles found, {self.pooled.fp} picks false; {why} (the matching `any` allows both, `one-to-one` neither)"

    @property
    def pooled(self) -> Scores:
        """The counts of all species and tomograms together."""
        return sum((part.pooled for part in self.species.values()), Scores(0, 0, 0))

    @property
    def tomograms(self) -> dict[str, Scores]:
        """The counts of all species together, by tomogram."""
        totals: dict[str, Scores] = {}
        for part in self.species.values():
            for name, scores in part.tomograms.items():
                totals[name] = totals.get(name, Scores(0, 0, 0)) + scores
        return totals

    def to_json(self) -> EvaluationAnswer:
        """Return plain values for JSON.

        One species: `{"pooled": {"f1", "precision", "recall", "tp", "fp", "fn"}, "tomograms": {NAME: {...}}}`, with `f_beta` in each
        if beta is not 1.  Several species, if only one of them has truth too: the same for their sums, and for each species under `"species"`.
        """
        all_together = SpeciesEvaluation(self.tomograms).to_json(beta=self.beta)
        whole: EvaluationAnswer = {"pooled": all_together["pooled"], "tomograms": all_together["tomograms"]}
        if len(self.species) + len(self.without_species) != 1:
            whole["species"] = {name: part.to_json(beta=self.beta) for name, part in self.species.items()}
        return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringRules:
    """Rules of an evaluation: when a pick matches, and what is counted.

    Parameters
    ----------
    tolerance
        Largest distance of a match, in the tables' unit.
    species
        Which to score; None: all in the picks.
    matching
        `any` (the paper's) or `one-to-one`: see `tomostream.evaluation.matching`.
    beta
        Weight of recall in F-beta; above zero.
    with_curve
        Whether to count at every score threshold as well; every pick then needs a score.

    Raises
    ------
    InputError
        If `beta` is not above zero and finite.
    """

    tolerance: float
    species: Sequence[str] | None = None
    matching: str
    beta: float = 1.0
    with_curve: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf:
            raise InputError(f"beta must be above zero and finite, found {self.beta}")


def evaluate_tables(
    picks: Particles, truth: Particles, *, rules: ScoringRules, tomograms: Sequence[str], unscored: Sequence[str]
) -> Evaluation:
    """Score tables of picks against tables of truth.

    Parameters
    ----------
    picks, truth
        Both in the same unit; each row names its tomogram.
    rules
        How they are compared.
    tomograms
        The tomograms to score: all that were picked, with or without a pick.
    unscored
        Other tomograms that are known to have truth; those in `truth` are added.

    Raises
    ------
    InputError
        If the units differ, a pick's tomogram is not among those scored, no scored tomogram has truth though others have, or it is not
        clear which species to compare.
    """
    _check(picks, truth, tomograms=tomograms)
    known = truth.tomograms()
    others = list(dict.fromkeys([*unscored, *(name for name in known if name not in set(tomograms))]))
    without = [name for name in tomograms if name not in set(known)]
    if others and len(without) == len(tomograms):
        raise InputError(
            f"none of the picked tomograms has truth: picked are {_listed(tomograms)}, truth is of {_listed(others)}; "
            "a tomogram must have the same name in both"
        )
    scored = truth.select(np.isin(truth.tomogram.astype(str), list(tomograms)))
    parts: dict[str, SpeciesEvaluation] = {}
    curves: dict[str, Curve] = {}
    count = 0
    for name, of_picks, of_truth in compared_species(picks.species_names(), scored.species_names(), rules.species):
        pairs = {
            tomogram: (
                picks.of(tomogram=tomogram, species=of_picks),
                scored.of(tomogram=tomogram, species=of_truth),
            )
            for tomogram in tomograms
        }
        count += sum(len(p) for p, _ in pairs.values())
        parts[name] = SpeciesEvaluation(
            {
                tomogram: match(p.position_zyx, t.position_zyx, tolerance=rules.tolerance, matching=rules.matching).scores
                for tomogram, (p, t) in pairs.items()
            }
        )
        if rules.with_curve:
            curves[name] = pooled_curve(
                events_of(p.position_zyx, p.score, t.position_zyx, tolerance=rules.tolerance, matching=rules.matching)
                for p, t in pairs.values()
            )
    return Evaluation(parts, rules.beta, tuple(others), tuple(without), curves, count)


def compared_species(
    in_picks: Sequence[str], in_truth: Sequence[str], requested: Sequence[str] | None
) -> list[tuple[str, str | None, str | None]]:
    """Decide which species are scored, and which rows of the two tables belong to each.

    A table that names no species, or only `particle`, is compared with whatever the other table names.

    Parameters
    ----------
    in_picks, in_truth
        The species' names in the tables.
    requested
        The species that the user asked for; None: all in the picks.

    Returns
    -------
    list
        For each species its name, and its name in the picks and in the truth (None: all rows).

    Raises
    ------
    InputError
        If this is not clear.

    Examples
    --------
    >>> compared_species(["particle"], ["ribosome", "fas"], ["fas"])
    [('fas', None, 'fas')]
    """
    picks_unnamed, truth_unnamed = set(in_picks) <= UNNAMED_SPECIES, set(in_truth) <= UNNAMED_SPECIES
    names = list(dict.fromkeys(requested)) if requested else [name for name in in_picks if not picks_unnamed]
    if not names:
        if len(in_truth) > 1:
            raise InputError(
                f"the picks don't say their species and the truth has several ({_listed(in_truth)}); choose one with --species"
            )
        names = [name for name in in_truth if name not in UNNAMED_SPECIES] or [_DEFAULT_NAME]
    if len(names) > 1 and ((picks_unnamed and in_picks) or (truth_unnamed and in_truth)):
        which = "picks don't" if picks_unnamed and in_picks else "truth doesn't"
        raise InputError(f"the {which} say the species, so {_listed(names)} can't be told apart; choose one with --species")
    absent = [name for name in names if not truth_unnamed and name not in in_truth]
    if absent and (requested or len(absent) == len(names)):
        raise InputError(
            f"the truth has no species {_listed(absent)}; it has {_listed(in_truth)}, the picks have {_listed(in_picks) or 'none'}"
        )
    if truth_unnamed and not picks_unnamed and (unknown := [name for name in names if name not in in_picks]):
        raise InputError(f"the picks have no species {_listed(unknown)}; they have {_listed(in_picks)}")
    return [(name, None if picks_unnamed else name, None if truth_unnamed else name) for name in names]


def _check(picks: Particles, truth: Particles, *, tomograms: Sequence[str]) -> None:
    if picks.unit != truth.unit and len(picks) and len(truth):
        raise InputError(f"the picks are in {picks.unit}s and the truth in {truth.unit}s; convert one of them with the voxel spacing")
    if not tomograms:
        raise InputError("no tomogram is scored: there is no table of picks")
    strangers = [name for name in picks.tomograms() if name not in set(tomograms)]
    if strangers:
        raise InputError(f"there are picks of tomograms that are not scored: {_listed(strangers)}; scored are {_listed(tomograms)}")


def _listed(names: Sequence[str]) -> str:
    """Return names for a message, at most a few of them."""
    shown = ", ".join(f"'{name}'" for name in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
