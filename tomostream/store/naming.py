"""What is a tomogram called?  Its file's name, less the suffixes of volumes and of compression.

One rule for every stage, so that a table made from `TS_01.mrc.gz` finds the store `TS_01.ome.zarr`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tomostream.errors import InputError

SUFFIXES = (".gz", ".bz2", ".mrc", ".rec", ".map", ".zarr", ".ome")
# how the name of a file ends that must be converted first (lower case)
MRC_ENDINGS = tuple(volume + packed for volume in (".mrc", ".rec", ".map") for packed in ("", ".gz", ".bz2"))


def tomogram_name(path: str | os.PathLike[str]) -> str:
    """Return the last part of a path or URL, less exactly `SUFFIXES`, repeatedly (case matters, a name never becomes empty).

    >>> tomogram_name("/data/TS_01.rec.gz"), tomogram_name("https://host/TS_01.ome.zarr/"), tomogram_name("a.b.st")
    ('TS_01', 'TS_01', 'a.b.st')
    """
    name = PurePosixPath(os.fspath(path).replace(os.sep, "/").partition("?")[0]).name
    while True:
        shorter = next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix) and name != suffix), name)
        if shorter == name:
            return name
        name = shorter


def distinct_names(paths: Sequence[str], *, from_folder: bool = False) -> dict[str, str]:
    """Name the inputs: their files' names less the known suffixes, or their folders' names.

    Returns
    -------
    dict
        Name to path, in the order given.

    Raises
    ------
    InputError
        If two inputs have one name, or there is no input.
    """
    if not paths:
        raise InputError("no input is given; name at least one file")
    names: dict[str, str] = {}
    for path in paths:
        name = _folder_name(path) if from_folder else tomogram_name(path)
        if name in names:
            hint = (
                "rename one" if from_folder else "rename one, or name them by their folders (--name-from-folder of convert, stats and pick)"
            )
            raise InputError(f"two inputs have the name '{name}': {names[name]} and {path}; {hint}")
        names[name] = path
    return names


def _folder_name(path: str) -> str:
    return path.rstrip("/").split("/")[-2] if "://" in path else Path(os.path.abspath(path)).parent.name
