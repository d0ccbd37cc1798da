"""What can a damaged part be made from again?  The tomograms, files, tables and models around it.

Looked at are the paths that were given, the project folders that hold them (up to three folders above), what those projects'
configurations name, and for a tomogram or table of known name also the folders above.  A source is taken by its identity, never by its name
alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tomostream.errors import InputError, TomostreamError
from tomostream.fingerprint import Fingerprint
from tomostream.remote.path_kinds import is_project
from tomostream.stages.shared.fingerprints import tomogram_fingerprint
from tomostream.store.identity import file_identity, is_same_identity
from tomostream.store.naming import MRC_ENDINGS, tomogram_name
from tomostream.tomogram import Tomogram, open_tomogram

_FOLDERS_ABOVE = 3


class Sources:
    """The possible sources.

    Parameters
    ----------
    given
        The paths of the command line.
    """

    def __init__(self, given: Iterable[Path]) -> None:
        self._given = [path.absolute() for path in given]

    def source_file(self, recorded: object) -> Path:
        """The file that a tomogram was converted from.

        Raises
        ------
        InputError
            If none around here is it.
        """
        name = recorded.get("name") if isinstance(recorded, dict) else None
        for path in self._files():
            if path.name == name and is_same_identity(recorded, file_identity(path)):
                return path
        raise InputError(f"its source file {name} was not found; give its path too")

    def tomogram(self, recorded: object) -> Tomogram:
        """The tomogram that scores or a mask were made from.

        Raises
        ------
        InputError
            If none around here is it.
        """
        name = recorded.get("name") if isinstance(recorded, dict) else None
        other: Path | None = None
        for path in self._stores(name if isinstance(name, str) else ""):
            try:
                found = open_tomogram(path)
            except TomostreamError:
                continue
            if found.name != name:
                continue
            if is_same_identity(recorded, tomogram_fingerprint(found)):
                return found
            if found.attributes.get("kind") in (None, "tomogram"):  # masks and scores have its name too
                other = path
        told = "" if other is None else f" ({other} was changed or made anew since)"
        raise InputError(f"the tomogram '{name}' that it was made from was not found{told}; give its store too")

    def tables(self, name: str | None) -> Iterator[str]:
        """The tables that may hold the points of a mask: those of this name, those given, those of projects; some may lack it."""
        if name is not None and os.path.basename(name) == name != os.pardir:
            for folder in self._near():
                yield str(folder / name)
        yield from (str(path) for path in self._given if path.is_file() and not path.name.lower().endswith(MRC_ENDINGS))
        for project in self._projects():
            yield from map(str, sorted((project / "labels").glob("[!.]*.csv")))
            for table in self._configured_tables(project):
                yield from (table, str(project.parent / table))

    def model(self, fingerprint: Fingerprint) -> Path:
        """The folder with the model that scores come from, maybe among others.

        Raises
        ------
        InputError
            If none around here is it.
        """
        from tomostream.strategies.several_models import files_in

        for folder in self._models():
            try:
                identities = [one.identity for one in files_in(folder)]
            except InputError:
                continue
            if (fingerprint.get("model"), fingerprint.get("settings")) in identities:
                return folder
        raise InputError("the model that it was made with was not found; give its folder too")

    def score_map(self, recorded: object) -> Tomogram:
        """The score map that picks come from; errors as of `tomogram`."""
        return self.tomogram(recorded)

    def _projects(self) -> Iterator[Path]:
        seen: set[Path] = set()
        for path in self._given:
            for folder in (path, *list(path.parents)[:_FOLDERS_ABOVE]):
                if folder not in seen and is_project(folder):
                    seen.add(folder)
                    yield folder

    def _configured(self) -> Iterator[Path]:
        """The tomograms that projects' configurations name; relative ones from here and from the folder above the project."""
        from tomostream.config import load_configuration
        from tomostream.project import input_paths

        for project in self._projects():
            try:
                patterns = load_configuration(project / "resolved.yaml").tomograms
            except TomostreamError:
                continue
            for pattern in patterns:
                for base in (Path(), project.parent):
                    try:
                        yield from (Path(path) for path in input_paths([str(base / pattern)]).values() if "://" not in path)
                    except TomostreamError:
                        continue

    def _configured_tables(self, project: Path) -> list[str]:
        """The tables of clicks that a project's configuration names, as they stand there."""
        from tomostream.config import load_configuration

        try:
            labels = load_configuration(project / "resolved.yaml").labels
        except TomostreamError:
            return []
        return [table for table in (*labels.train, *labels.validate_) if "://" not in table]

    def _near(self) -> Iterator[Path]:
        """The folders that were given, the folders in them, and those above what was given; each once."""
        seen: set[Path] = set()
        for path in self._given:
            inner = [path, *(one for one in path.iterdir() if one.is_dir())] if path.is_dir() and path.suffix != ".zarr" else []
            for folder in (*inner, *list(path.parents)[:_FOLDERS_ABOVE]):
                if folder not in seen:
                    seen.add(folder)
                    yield folder

    def _files(self) -> Iterator[Path]:
        for path in (*self._given, *self._configured(), *(file for project in self._projects() for file in project.parent.iterdir())):
            if path.is_file() and path.name.lower().endswith(MRC_ENDINGS):
                yield path

    def _stores(self, name: str) -> Iterator[Path]:
        """Stores that may be the tomogram of this name."""
        folders = [path for project in self._projects() for path in (project / "tomograms", project / "scores", project / "labels")]
        for path in (*self._given, *folders):
            if path.name.endswith(".zarr"):
                yield path
            elif path.is_dir():
                yield from path.glob("*.zarr")
                yield from path.glob("*/*.zarr")
        yield from (path for path in self._configured() if path.is_dir())
        for folder in self._near():
            yield from (path for path in folder.glob("*.zarr") if tomogram_name(path) == name)

    def _models(self) -> Iterator[Path]:
        yield from (path for path in self._given if path.is_dir())
        yield from (project / "model" for project in self._projects())
