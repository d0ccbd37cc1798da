"""Which command comes next: convert, train and pick, more candidates, or suggestions?  Each runs with the project's own arguments.

A *round* is one training with the clicks as they are.  The first run makes the model; when the clicks have changed since, the next run
replaces it (`--overwrite`), and starts from it where the configuration can say so (`train.start`).
"""

from __future__ import annotations

import glob
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from tomostream.config import Configuration, configuration_values, load_configuration
from tomostream.errors import InputError, TomostreamError
from tomostream.formats.registry import Conversion, read_table
from tomostream.learn.training_files import NEXT_NAME, PARTS_NAME
from tomostream.strategies.catalogued import strategy_named
from tomostream.strategies.model_folder import has_model
from tomostream.strategies.training_progress import latest_metrics
from tomostream.view.jobs import Jobs
from tomostream.view.messages import PlaceAnswer, RoundsAnswer, TomogramState
from tomostream.view.picks import CANDIDATES, PickTables
from tomostream.view.workspace import Workspace

_BEYOND = 3  # times the picks are candidates
_LEAST_CANDIDATES = 100
_NEXT_CONFIG = "next-round.yaml"


class Rounds:
    """Starts the commands of a project.

    Parameters
    ----------
    workspace, jobs, picks
        What is open, what runs, what was picked.
    """

    def __init__(self, workspace: Workspace, jobs: Jobs, picks: PickTables) -> None:
        self._workspace, self._jobs, self._picks = workspace, jobs, picks

    def convert(self, voxel_size: float | None) -> None:
        """Convert the MRC files that are not converted.

        Raises
        ------
        InputError
            If there are none.
        """
        waiting = [entry.source for entry in self._workspace.entries.values() if not entry.is_converted]
        if not waiting:
            raise InputError("all tomograms are converted")
        known = None if self._workspace.configuration is None else self._workspace.configuration.voxel_size
        voxel_size = self._workspace.voxel_size = voxel_size if voxel_size is not None else self._workspace.voxel_size or known
        size = ["--voxel-size", repr(voxel_size)] if voxel_size is not None else []
        self._jobs.start(
            "convert", ["convert", *waiting, "-o", str(self._workspace.inside("tomograms")), *size], about=f"{len(waiting)} tomograms"
        )

    def train_and_pick(self) -> None:
        """Run the configuration with the clicks as they are.

        Raises
        ------
        InputError
            If there is no configuration.
        """
        path, configuration = self._workspace.config_path, self._workspace.configuration
        if path is None or configuration is None:
            raise InputError("first give the name and the radius of the particle")
        gone = [
            entry.source
            for entry in self._workspace.entries.values()
            if not entry.is_there and glob.escape(entry.source) in configuration.tomograms
        ]
        if gone:
            raise InputError(f"{gone[0]} is not there any more; bring it back, or press Change and Save to go on without it")
        again = self._has_model()
        config = self._continued(configuration, path) if again else path
        about = "first round" if not again else "again, from the model" if config != path else "again, from the start"
        self._jobs.start("run", ["run", str(config.absolute()), *(["--overwrite"] if again else [])], about=about)

    def widen(self, name: str, species: str) -> None:
        """Pick more than was chosen, for the slider.

        Raises
        ------
        InputError
            If there are no picks or scores.
        """
        configuration, scores = self._workspace.configuration, self._workspace.scores(name, species)
        if configuration is None or scores is None:
            raise InputError(f"there is no score map of '{name}' yet; train and pick first")
        radius = next((one.radius for one in configuration.species if one.name == species), None)
        if radius is None:
            raise InputError(f"the configuration has no species '{species[:40]}'")
        chosen = self._picks.counts(name).get(species, 0)
        folder = self._workspace.inside("view", CANDIDATES, species)
        pick = configuration.pick
        options = [
            text
            for option, value in (("--smooth", pick.smooth), ("--border", pick.border), ("--method", pick.method))
            if value is not None
            for text in (option, str(value))
        ]
        count = max(_LEAST_CANDIDATES, _BEYOND * chosen)
        arguments = ["pick", scores.path, "--radius", str(radius), "--count", str(count), "--species", species, "-o", str(folder), *options]
        self._jobs.start("candidates", arguments, about=name)

    def suggest(self, points: int) -> None:
        """Suggest the places where a click would help most.

        Raises
        ------
        InputError
            If nothing was picked yet.
        """
        if self._workspace.config_path is None or not self._has_model():
            raise InputError("there is no model yet; train and pick first")
        output = self._workspace.own("suggested.csv")
        arguments = ["suggest", str(self._workspace.project), "--points", str(points), "-o", str(output)]
        self._jobs.start("suggest", arguments, about=f"{points} places")

    def suggested(self) -> list[PlaceAnswer]:
        """Return the last suggested places (angstrom)."""
        path = self._workspace.inside("view", "suggested.csv")
        if not path.is_file():
            return []
        spacings = {name: spacing for name in self._workspace.entries if (spacing := self._workspace.spacing_of(name)) is not None}
        conversion = Conversion(spacings=spacings)
        places = conversion.to_unit(read_table(path, conversion=conversion), "angstrom", "places to look at")
        rows = zip(places.tomogram.tolist(), places.species.tolist(), places.position_zyx.tolist(), places.score.tolist(), strict=True)
        return [
            {"tomogram": tomogram, "species": species, "x": x, "y": y, "z": z, "score": None if np.isnan(score) else score}
            for tomogram, species, (z, y, x), score in rows
            if tomogram in self._workspace.entries
        ]

    def tomogram_state(self, name: str) -> TomogramState:
        """Whether a tomogram can be seen, how far its conversion is, and how many picks it has."""
        entry = self._workspace.entry(name)
        state: Literal["ready", "converting", "unconverted", "failed", "missing"] = "ready"
        problem: str | None = None
        share: float | None = None
        if not entry.is_converted:
            job = self._jobs.get("convert")
            share = _share_converted(entry.source, entry.store)
            state = "converting" if job is not None and job.is_running else "unconverted"
            if job is not None and job.state in ("failed", "partly"):
                state, problem = "failed", job.why_failed(name)
            if not entry.is_there:
                state, problem = "missing", f"{entry.source} is not there any more"
        elif "://" not in entry.store and not Path(entry.store).is_dir():
            state, problem = "missing", f"{entry.store} is not there any more"
        try:
            has_scores = bool(self._workspace.species()) and any(self._workspace.scores(name, one) for one in self._workspace.species())
            picks = self._picks.counts(name)
        except TomostreamError as error:
            has_scores, picks, problem = False, {}, str(error)
        return {"name": name, "state": state, "share": share, "problem": problem, "picks": picks, "has_scores": has_scores}

    def to_json(self) -> RoundsAnswer:
        """Return whether there is a model, and the last measurements of its training."""
        return {"has_model": self._has_model(), "metrics": _metrics(self._workspace.project / "model")}

    def _has_model(self) -> bool:
        return has_model(self._workspace.project / "model")

    def _continued(self, configuration: Configuration, path: Path) -> Path:
        """Return a configuration that starts from the existing model, if its strategy can; the given one is not changed."""
        if not getattr(strategy_named(configuration.objective.name), "continues", False):
            return path
        kept = self._workspace.inside("view", "last-model")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self._workspace.project / "model", kept, ignore=shutil.ignore_patterns("*.pt", PARTS_NAME, NEXT_NAME))
        values = configuration_values(path)
        values["train"] = (values.get("train") or {}) | {"start": str(kept)}
        following = self._workspace.own(_NEXT_CONFIG)
        following.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        return following if _is_of_the_model(load_configuration(following)) else path  # what is refused is so here, not in the background


def _is_of_the_model(configuration: Configuration) -> bool:
    """Whether training can go on from `train.start`: the model has all the species (none was added or renamed) and the network's channels."""
    learning = configuration.learning
    parts = [learning] if learning.train.together else [replace(learning, species=(one,)) for one in learning.species]
    strategy = strategy_named(configuration.objective.name)
    try:
        for part in parts:
            strategy.fingerprint(part)
    except InputError:
        return False
    return True


def _share_converted(source: str, store: str) -> float | None:
    """Return the written fraction of a conversion, by bytes; None if it can't be known (compressed files)."""
    partial = Path(f"{store}.partial")
    try:
        whole = Path(source).stat().st_size
        written = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    except OSError:
        return None
    if source.endswith((".gz", ".bz2")) or whole == 0:
        return None
    return min(0.99, written / (whole * 8 / 7))


def _metrics(folder: Path) -> dict[str, dict[str, list[float]]]:
    """The columns of the last training's metrics that are numbers, by species; 0 where a row has none."""
    found: dict[str, dict[str, list[float]]] = {}
    for species, table in latest_metrics(folder).items():
        columns = {name: np.asarray(column) for name, column in table.items()}
        found[species] = {
            name: np.where(np.isfinite(column), column, 0.0).tolist() for name, column in columns.items() if np.isfinite(column).any()
        }
    return found
