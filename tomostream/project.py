"""The project folder of a run: what lies where.

tomograms/ labels/ model/ scores/ picks/ evaluation.json report.html resolved.yaml log.jsonl
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tomostream.errors import InputError
from tomostream.formats.lists import listed_volumes
from tomostream.remote.copies import upload, work_folder
from tomostream.remote.home import expanded
from tomostream.remote.path_kinds import Wanted, instead
from tomostream.remote.places import Place, RemotePath, place
from tomostream.store.naming import MRC_ENDINGS, distinct_names

RUN_LOCK = ".run.lock"  # in the project folder: held by the run that is at work on it


@dataclass(frozen=True, slots=True)
class Project:
    """The paths of one project."""

    folder: Place

    @property
    def tomograms(self) -> Place:
        """Converted tomograms."""
        return self.folder / "tomograms"

    @property
    def labels(self) -> Place:
        """Copies of the tables of clicks that served, as the package's own CSV."""
        return self.folder / "labels"

    @property
    def model(self) -> Place:
        """The trained model."""
        return self.folder / "model"

    @property
    def scores(self) -> Place:
        """Score maps; one folder a species if there are several."""
        return self.folder / "scores"

    def store(self, name: str, path: str) -> str:
        """Where a tomogram's store is: in the project if it is converted, else the input itself."""
        return str(self.tomograms / f"{name}.ome.zarr") if is_mrc(path) else path

    def score_folder(self, species: str, count: int) -> Place:
        """Where the score maps of a species are, given the number of species."""
        return self.scores if count == 1 else self.scores / species

    @property
    def picks(self) -> Place:
        """Tables of picks, one per tomogram."""
        return self.folder / "picks"

    @property
    def evaluation(self) -> Place:
        """The evaluation against truth."""
        return self.folder / "evaluation.json"

    @property
    def report(self) -> Place:
        """The report."""
        return self.folder / "report.html"

    @property
    def resolved(self) -> Place:
        """The resolved configuration."""
        return self.folder / "resolved.yaml"

    @property
    def log(self) -> Place:
        """The log of the run, one JSON object a line."""
        return self.folder / "log.jsonl"

    def check(self) -> None:
        """Check that the folder is there, or can be made, and can be written.

        Raises
        ------
        InputError
            If not.
        """
        if isinstance(self.folder, RemotePath):
            return
        there = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists() or path.is_symlink())
        if not there.is_dir():
            raise InputError(f"project folder {self.folder} can't be made: {there} is no folder; name another in `project`")
        if not os.access(there, os.W_OK | os.X_OK):
            raise InputError(f"project folder {self.folder} can't be written: no permission for {there}; name another in `project`")

    def create(self) -> None:
        """Make the folder.

        Raises
        ------
        InputError
            If it can't be made.
        """
        if isinstance(self.folder, RemotePath):
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"project folder {self.folder} can't be made: {error.strerror or error}") from None


@contextmanager
def kept_log(project: Project) -> Iterator[Path]:
    """Give the file that a run's log is appended to; of a project on an object store a local one, which is uploaded when the run ends."""
    if isinstance(project.log, Path):
        yield project.log
        return
    folder = work_folder(project.log.parent, "runs")
    folder.mkdir(parents=True, exist_ok=True)
    local = folder / project.log.name
    try:
        yield local
    finally:
        if local.is_file():
            upload(local, project.log)


def input_paths(patterns: list[str]) -> dict[str, str]:
    """Find the tomograms of a configuration: paths, globs, URLs or files that list some; name to path.

    Raises
    ------
    InputError
        If a pattern matches nothing, or two tomograms have one name.
    """
    paths: list[str] = []
    for pattern in patterns:
        if (listed := listed_volumes(pattern)) is not None:
            paths.extend(listed)
            continue
        given = place(pattern)
        if isinstance(given, RemotePath):
            found = [str(one) for one in given.matches()] if glob.has_magic(pattern.partition("?")[0]) else [pattern]
            if not found:
                raise InputError(f"tomograms: nothing matches '{pattern}'")
            paths.extend(p for p in found if not p.endswith(".partial"))
            continue
        found = sorted(glob.glob(str(expanded(pattern)), recursive=True)) if glob.has_magic(pattern) else [pattern]
        if not found or not Path(found[0]).exists():
            raise InputError(f"tomograms: nothing matches '{pattern}' (paths count from the current folder, {Path.cwd()})")
        for path in found:
            if not path.endswith(".partial") and (other := instead(path, Wanted.TOMOGRAM)) is not None:
                raise InputError(f"tomograms: {other}")
        paths.extend(p for p in found if not p.endswith(".partial"))
    return distinct_names(list(dict.fromkeys(paths)))


def is_mrc(path: str) -> bool:
    """Whether a path must be converted first, by its ending."""
    return path.partition("?")[0].lower().endswith(MRC_ENDINGS)
