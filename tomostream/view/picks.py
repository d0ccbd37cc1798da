"""Which picks does a tomogram have, how certain are they, and how good if the truth is known?

1. The tables that `pick` wrote into the project: `picks/NAME.csv`, best first.
2. If there are *candidates* (`view/candidates/`, more picks of the same score map with the same radius), they are shown instead, so that
   a count or threshold can be raised as well as lowered; the picks are then the first of them.
3. What F1 and precision are to be expected of the picks, where the run that chose them has told (its journal).
4. Where the configuration names a table of truth: found and false picks at each threshold, by the evaluation's own rule.

Inconsistencies give a warning: picks of another score map than the present one (by the record that `pick` left; of tables without a record, by
age), candidates that don't begin with the picks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tomostream.errors import InputError, TomostreamError
from tomostream.evaluation.curves import precision_recall_curve
from tomostream.fingerprint import Fingerprint
from tomostream.formats.registry import Conversion, read_table
from tomostream.particles import Particles
from tomostream.pipeline.journal import Event
from tomostream.pipeline.run_history import choices_in, expected_of
from tomostream.report.contents import Expected
from tomostream.stages.picks.stage import map_title
from tomostream.stages.shared.sidecar import made_by
from tomostream.store.identity import is_same_identity
from tomostream.view.messages import CurveAnswer, PickListAnswer
from tomostream.view.workspace import Workspace

CANDIDATES = "candidates"
_SAME = 1e-6  # angstrom, angstrom and score of a candidate that is a pick


@dataclass(slots=True)
class PickList:
    """The picks of one species in one tomogram, best first.

    Parameters
    ----------
    particles
        Angstrom.
    chosen
        How many of them `pick` chose.
    warnings
        What does not fit together.
    curve
        Thresholds (falling) with found and false picks, and the number of true particles; None without truth.
    expected
        F1 and precision that are to be expected of the chosen ones; None if the run has not told.
    """

    particles: Particles
    chosen: int
    warnings: list[str] = field(default_factory=list)
    curve: CurveAnswer | None = None
    expected: Expected | None = None

    def to_json(self) -> PickListAnswer:
        """Return plain values, columns x y z in angstrom."""
        zyx = self.particles.position_zyx
        scores = [None if np.isnan(score) else float(score) for score in self.particles.score]
        return {
            "x": zyx[:, 2].tolist(), "y": zyx[:, 1].tolist(), "z": zyx[:, 0].tolist(), "score": scores,
            "chosen": self.chosen, "warnings": self.warnings, "curve": self.curve, "expected": self.expected,
        }  # fmt: skip


class PickTables:
    """Reads tables of picks and of truth, each again only after it changed."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._read: dict[Path, tuple[tuple[int, int], Particles]] = {}
        self._choices: tuple[int, dict[str, Event]] = (-1, {})  # size of the journal, and what it tells

    def picks(self, name: str, species: str) -> PickList | None:
        """Return the picks of a tomogram; None if there is no table.

        Raises
        ------
        InputError
            If a table is broken.
        """
        path = self._workspace.inside("picks", f"{name}.csv")
        if not path.is_file():
            return None
        spacing = self._workspace.spacing_of(name)
        picks = self._table(path, name, spacing).of(tomogram=name)
        if species in picks.species_names() or len(picks.species_names()) != 1:
            picks = picks.of(species=species)
        result = PickList(picks, len(picks))
        title = map_title(name, species, is_only=len(self._workspace.species()) < 2)
        result.expected = expected_of(self._chosen(), title, result.chosen)
        self._warn_of_other_scores(result, name, species, path)
        self._widen(result, name, species, spacing)
        result.curve = self._curve(result.particles, name, species, spacing)
        return result

    def counts(self, name: str) -> dict[str, int]:
        """Return the number of picks by species; empty without a readable table."""
        path = self._workspace.inside("picks", f"{name}.csv")
        if not path.is_file():
            return {}
        try:
            picks = self._table(path, name, self._workspace.spacing_of(name))
        except TomostreamError:
            return {}
        return {species: len(picks.of(species=species)) for species in picks.species_names()}

    def candidates_file(self, name: str, species: str) -> Path:
        """Where candidates are kept."""
        return self._workspace.inside("view", CANDIDATES, species, f"{name}.csv")

    def _chosen(self) -> dict[str, Event]:
        journal = self._workspace.project / "log.jsonl"
        size = journal.stat().st_size if journal.is_file() else 0
        if size != self._choices[0]:
            self._choices = (size, choices_in(self._workspace.project))
        return self._choices[1]

    def _warn_of_other_scores(self, result: PickList, name: str, species: str, path: Path) -> None:
        scores = self._workspace.scores(name, species)
        if scores is None:
            return
        present = scores.attributes.get("fingerprint")
        recorded = _score_maps_of(path)
        if present is not None and recorded:
            if not any(is_same_identity(one, present) for one in recorded):
                result.warnings.append(
                    "the score map was made with other settings, or another model, than the one of these picks: run the configuration again to update them"
                )
            return
        head = Path(scores.path) / "zarr.json"
        if head.exists() and head.stat().st_mtime > path.stat().st_mtime + 1:
            result.warnings.append("the score map is newer than these picks: run the configuration again to update them")

    def _widen(self, result: PickList, name: str, species: str, spacing: float | None) -> None:
        path = self.candidates_file(name, species)
        if not path.is_file():
            return
        wide = self._table(path, name, spacing).of(tomogram=name)
        n = result.chosen
        is_prefix = len(wide) >= n and bool(
            np.allclose(wide.position_zyx[:n], result.particles.position_zyx, atol=_SAME, rtol=0)
            and np.allclose(wide.score[:n], result.particles.score, atol=_SAME, rtol=0)
        )
        if is_prefix:
            result.particles = wide
        elif path.stat().st_mtime > self._workspace.inside("picks", f"{name}.csv").stat().st_mtime:
            result.warnings.append("the picks and the score map's candidates were made with different settings; only the picks are shown")

    def _curve(self, picks: Particles, name: str, species: str, spacing: float | None) -> CurveAnswer | None:
        configuration = self._workspace.configuration
        if configuration is None or configuration.truth is None or spacing is None or "://" in configuration.truth:
            return None
        truth = self._table(self._workspace.located(configuration.truth), name, spacing).of(tomogram=name, species=species)
        if len(truth) == 0 or len(picks) == 0 or np.isnan(picks.score).any():
            return None
        curve = precision_recall_curve(
            picks.in_unit("voxel", spacing).position_zyx,
            picks.score,
            truth.in_unit("voxel", spacing).position_zyx,
            tolerance=configuration.tolerance.in_voxels(spacing),
            matching=configuration.matching,
        )
        return {"threshold": curve.threshold.tolist(), "tp": curve.tp.tolist(), "fp": curve.fp.tolist(), "truths": curve.truths}

    def _table(self, path: Path, name: str, spacing: float | None) -> Particles:
        try:
            status = path.stat()
        except OSError:
            raise InputError(f"table {path} no longer exists") from None
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._read.get(path)
        if known is None or known[0] != stamp:
            spacings = {} if spacing is None else {name: spacing}
            known = self._read[path] = (stamp, read_table(path, conversion=Conversion(spacings=spacings, tomogram=None)))
        particles = known[1]
        if particles.unit == "voxel" and spacing is not None and path != self._truth_path():
            particles = particles.in_unit("angstrom", spacing)
        return particles.named(tomogram=name)

    def _truth_path(self) -> Path | None:
        configuration = self._workspace.configuration
        return None if configuration is None or configuration.truth is None else self._workspace.located(configuration.truth)


def _score_maps_of(table: Path) -> list[Fingerprint]:
    """What made the score maps from which a table of picks was made; empty where that is not recorded."""
    maps = (made_by(table) or {}).get("maps")
    sources = [one.get("scores") for one in maps if isinstance(one, dict)] if isinstance(maps, list) else []
    found = [one.get("made_by") for one in sources if isinstance(one, dict)]
    return [one for one in found if isinstance(one, dict)]
