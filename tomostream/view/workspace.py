"""What is open in the workbench?  Tomograms by name, the project folder, its configuration, and the table of clicks.

A path is one of:

- an OME-Zarr store, or an MRC file (converted into the project's `tomograms/` before it is seen);
- a configuration (`.yaml`): its tomograms, species, project and first table of clicks;
- a project folder of `run`: what its `resolved.yaml` says;
- any other folder: the tomograms in it, and the configuration that an earlier workbench wrote there.

Everything that is written lies in the project folder, besides the table of clicks.  A folder inside the project that is a link to
somewhere else is refused.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tomostream.config import Configuration, load_configuration
from tomostream.errors import InputError, TomostreamError
from tomostream.remote.home import expanded
from tomostream.remote.path_kinds import is_project
from tomostream.remote.places import RemotePath
from tomostream.store.naming import MRC_ENDINGS, tomogram_name
from tomostream.tomogram import Tomogram, open_tomogram

DEFAULT_PROJECT = "tomostream-view"
CONFIG_NAME = "tomostream.yaml"  # the configuration that the page writes
_OWN_FOLDER = "view"  # of what only the workbench makes
_YAML = (".yaml", ".yml")


@dataclass(slots=True)
class Entry:
    """A tomogram: its source, and the path of its store, which may not be converted yet."""

    name: str
    source: str
    store: str

    @property
    def is_converted(self) -> bool:
        """Whether it can be viewed."""
        return self.store == self.source or Path(self.store).is_dir()

    @property
    def is_there(self) -> bool:
        """Whether the source is still where it was."""
        return "://" in self.source or Path(self.source).exists()


@dataclass(slots=True)
class Workspace:
    """What is open."""

    project: Path
    entries: dict[str, Entry]
    clicks: Path
    config_path: Path | None = None
    configuration: Configuration | None = None
    voxel_size: float | None = None  # angstrom; what the user said of files that have none
    base: Path = field(default_factory=Path.cwd)  # from which the configuration's paths count
    _opened: dict[str, tuple[int, Tomogram]] = field(default_factory=dict)

    def entry(self, name: str) -> Entry:
        """The tomogram of this name.

        Raises
        ------
        InputError
            If there is none.
        """
        if name not in self.entries:
            raise InputError(f"no tomogram is named '{name[:80]}'")
        return self.entries[name]

    def tomogram(self, name: str) -> Tomogram:
        """Open a tomogram, once; reopen it if its store was replaced.

        Raises
        ------
        InputError
            If it is not converted yet, or has vanished.
        """
        entry = self.entry(name)
        if not entry.is_converted:
            raise InputError(f"'{name}' is not converted yet; convert it first")
        return self._open(entry.store, f"tomogram '{name}'")

    def scores(self, name: str, species: str) -> Tomogram | None:
        """Open a score map of the project; None if there is none."""
        self.entry(name)
        several = self.configuration is not None and len(self.configuration.species) > 1
        path = self.inside("scores", *([species] if several else []), f"{name}.ome.zarr")
        return self._open(str(path), f"the score map of '{name}'") if path.is_dir() else None

    def spacing_of(self, name: str) -> float | None:
        """Voxel spacing of a tomogram (angstrom); None if it can't be opened."""
        try:
            return self.tomogram(name).spacing
        except TomostreamError:
            return None

    def species(self) -> list[str]:
        """Names of the particles that are looked for."""
        return [one.name for one in self.configuration.species] if self.configuration is not None else []

    def inside(self, *parts: str) -> Path:
        """A path in the project folder.

        Raises
        ------
        InputError
            If a part is no plain name, or a link leads out of the folder.
        """
        if any(part in ("", ".", "..") or "/" in part or "\0" in part or os.sep in part for part in parts):
            raise InputError(f"'{'/'.join(parts)[:80]}' is not a file of the project folder")
        path = self.project.joinpath(*parts)
        if not path.resolve().is_relative_to(self.project.resolve()):
            raise InputError(f"{path} is a link to a place outside the project folder; copy the files into it")
        return path

    def located(self, path: str) -> Path:
        """A path of the configuration."""
        return self.base / path

    def own(self, name: str) -> Path:
        """A file that only the workbench makes, in a folder of the project."""
        path = self.inside(_OWN_FOLDER, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def is_ours(self) -> bool:
        """Whether the configuration is that which the page writes; there may be none yet."""
        return self.config_path is None or self.config_path.resolve() == (self.project / CONFIG_NAME).resolve()

    def only_looking(self) -> str | None:
        """Why nothing can be clicked, trained or exported: there is no place to write to; None if there is."""
        for folder in (self.project, self.clicks.parent):
            there = next(one for one in (folder, *folder.parents) if one.exists())
            if not os.access(there, os.W_OK | os.X_OK):
                return (
                    f"{there} can't be written: you can look, but not click, train or export; for that change its permissions, or start "
                    "with the tomograms alone and another folder (-o DIR)"
                )
        return None

    def adopt(self, path: Path, configuration: Configuration) -> None:
        """Work with this configuration from now on."""
        self.config_path, self.configuration = path, configuration

    def _open(self, path: str, what: str) -> Tomogram:
        head = Path(path) / "zarr.json"
        try:
            stamp = (head if head.exists() else Path(path)).stat().st_mtime_ns if "://" not in path else 0
        except OSError:
            self._opened.pop(path, None)
            raise InputError(f"{what} has vanished: {path} no longer exists; restore it, or start `tomostream view` again") from None
        known = self._opened.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        opened = open_tomogram(path)
        self._opened[path] = (stamp, opened)
        return opened


def open_workspace(paths: Sequence[str], *, project: Path | None, clicks: Path | None) -> Workspace:
    """Find out what the paths mean.

    Raises
    ------
    InputError
        If one does not exist, two tomograms have one name, or several configurations are given.
    """
    sources: list[str] = []
    configs: list[Path] = []
    run: Path | None = None
    for path in paths:
        if "://" in path:
            sources.append(path)
            continue
        where = expanded(path)
        if not where.exists():
            raise InputError(
                f"{path} does not exist; give tomograms (MRC or OME-Zarr), folders of them, a project folder or a configuration"
            )
        if where.is_file() and where.suffix.lower() in _YAML:
            configs.append(where)
        elif _is_tomogram(where):
            sources.append(str(where))
        elif is_project(where):
            run = where
            configs.append(where / CONFIG_NAME if (where / CONFIG_NAME).is_file() else where / "resolved.yaml")
        elif where.is_dir():
            sources += _tomograms_in(where)
            configs += [where / CONFIG_NAME] if (where / CONFIG_NAME).is_file() else []
        else:
            raise InputError(
                f"{path} is neither a tomogram (.mrc .rec .map, also .gz .bz2, or OME-Zarr), nor a folder, nor a configuration (.yaml)"
            )
    if len(configs) > 1:
        raise InputError(f"several configurations are given ({', '.join(map(str, configs))}); open one at a time")
    return _assembled(sources, configs[0] if configs else None, run, project, clicks)


def _assembled(sources: list[str], config: Path | None, run: Path | None, project: Path | None, clicks: Path | None) -> Workspace:
    configuration = None if config is None else load_configuration(config)
    if configuration is not None and isinstance(configuration.project, RemotePath):
        raise InputError(f"{config}: its project {configuration.project} is not a folder on this machine; the workbench needs a local one")
    if run is not None:
        folder = run
    elif configuration is not None:
        folder = Path(str(configuration.project))
    else:
        folder = project or Path(DEFAULT_PROJECT)
        kept = folder / CONFIG_NAME
        if kept.is_file():  # the page wrote it when this was open last
            config, configuration = kept, load_configuration(kept)
    if project is not None and project.resolve() != folder.resolve():
        raise InputError(f"--output {project} is not the project of {config}, which is {folder}; leave --output out")
    folder = folder.absolute()
    base = Path.cwd() if configuration is None else _base(configuration, run)
    configured = [] if configuration is None else _configured(configuration, config, run, base)
    entries = _entries([*sources, *configured], folder)
    table = clicks or _first_table(configuration, base) or folder / "clicks.csv"
    return Workspace(folder, entries, table.absolute(), config, configuration, base=base)


def _base(configuration: Configuration, run: Path | None) -> Path:
    """From which folder a configuration's paths count: the current one, as always; of a run that was started elsewhere the one beside it."""
    if run is None or any(_matching(pattern, Path.cwd()) for pattern in configuration.tomograms):
        return Path.cwd()
    beside = run.absolute().parent
    return beside if any(_matching(pattern, beside) for pattern in configuration.tomograms) else Path.cwd()


def _matching(pattern: str, base: Path) -> list[str]:
    return [] if "://" in pattern else sorted(glob.glob(str(base / expanded(pattern)), recursive=True))


def _configured(configuration: Configuration, config: Path | None, run: Path | None, base: Path) -> list[str]:
    """The tomograms that a configuration names; of a run whose files have moved since, the stores that it made."""
    found: list[str] = []
    for pattern in configuration.tomograms:
        if "://" in pattern:
            found.append(pattern)
            continue
        paths = _matching(pattern, base)
        if not paths and run is not None:
            found += [str(path) for path in sorted((run / "tomograms").glob("*.ome.zarr"))]
        elif not paths:
            raise InputError(f"{config}: tomograms: nothing matches '{pattern}' (paths count from the current folder, {base})")
        found += [path for path in paths if not path.endswith(".partial")]
    return found


def _first_table(configuration: Configuration | None, base: Path) -> Path | None:
    if configuration is None:
        return None
    table = configuration.labels.train[0]
    return None if "://" in table else base / table


def _entries(sources: Sequence[str], project: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for source in sources:
        path = source if "://" in source else os.path.abspath(source)
        name = tomogram_name(path)
        store = str(project / "tomograms" / f"{name}.ome.zarr") if _is_mrc(path) else path
        known = entries.get(name)
        if known is not None and known.store != store:
            raise InputError(f"two tomograms have the name '{name}': {known.source} and {path}; open one of them, or rename it")
        if known is None or _is_mrc(path):
            entries[name] = Entry(name, path, store)
    return dict(sorted(entries.items()))


def _is_mrc(path: str) -> bool:
    return path.partition("?")[0].lower().endswith(MRC_ENDINGS)


def _is_tomogram(path: Path) -> bool:
    if path.is_file():
        return _is_mrc(path.name)
    return path.name.endswith(".zarr") or (path / "zarr.json").is_file() or (path / ".zattrs").is_file()


def _tomograms_in(folder: Path) -> list[str]:
    found = [
        path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and path.suffix != ".partial" and _is_tomogram(path)
    ]
    return [str(path) for path in found]
