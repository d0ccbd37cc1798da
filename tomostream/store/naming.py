"""How is a tomogram named?  By its file's name without the suffixes of volumes and of compression.

One rule for every stage, so that a table made from `TS_01.mrc.gz` finds the store `TS_01.ome.zarr`.  In copick's layout
(`ExperimentRuns/RUN/VoxelSpacing10.000/denoised.zarr`) every tomogram's file has the same name; there the run's name is the tomogram's.

A table gives a name or a file (`Tomograms/job006/tomograms/rec_TS_01.mrc`, `TS_01.tomostar`): see `listed_tomogram`.  RELION 5 names
the file of tomogram `TS_01` `rec_TS_01.mrc`: see `counterpart`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from tomostream.errors import InputError
from tomostream.remote.places import place

SUFFIXES = (".gz", ".bz2", ".mrc", ".rec", ".map", ".zarr", ".ome")
# endings of files that must be converted first (lower case)
MRC_ENDINGS = tuple(volume + packed for volume in (".mrc", ".rec", ".map") for packed in ("", ".gz", ".bz2"))
RECONSTRUCTED = "rec_"  # prefix of RELION's reconstructed tomograms
_LISTED_SUFFIX = ".tomostar"  # Warp's description of a tilt series; its tables name this file instead of the tomogram
_VOXEL_SPACING = re.compile(r"VoxelSpacing\d+(\.\d+)?")  # copick's folder of one run's tomograms of one spacing
_NO_NAMES = frozenset({"nan", "NaN", "None", "<NA>"})  # how pandas and Python print a missing name


def tomogram_name(path: str | os.PathLike[str]) -> str:
    """Return the last part of a path or URL, less exactly `SUFFIXES`, repeatedly (case matters, a name never becomes empty).

    >>> tomogram_name("/data/TS_01.rec.gz"), tomogram_name("https://host/TS_01.ome.zarr/"), tomogram_name("a.b.st")
    ('TS_01', 'TS_01', 'a.b.st')
    >>> tomogram_name("project/ExperimentRuns/TS_01/VoxelSpacing10.000/denoised.zarr")
    'TS_01'
    """
    text = os.fspath(path).replace(os.sep, "/").partition("?")[0]
    whole = PurePosixPath(text)
    if ".." in whole.parts and "://" not in text:
        whole = PurePosixPath(os.path.normpath(text))
    if _VOXEL_SPACING.fullmatch(_parent(whole, text)) and whole.name.endswith(".zarr") and (run := _parent(whole.parent, text)):
        return run
    return _less(whole.name, SUFFIXES)


def _parent(path: PurePosixPath, text: str) -> str:
    """Return the name of a path's folder; for a relative local path, even if that lies above the working directory."""
    return path.parent.name if "://" in text or path.parent.name else PurePosixPath(os.path.abspath(str(path))).parent.name


def _less(name: str, suffixes: tuple[str, ...]) -> str:
    while True:
        shorter = next((name.removesuffix(suffix) for suffix in suffixes if name.endswith(suffix) and name != suffix), name)
        if shorter == name:
            return name
        name = shorter


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; file names may hold other bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def listed_name(value: object) -> str:
    """Return a table's name without surrounding blanks; empty for None, NaN and their printed forms."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value).strip()
    return "" if text in _NO_NAMES else text


def listed_tomogram(value: object, *, is_file: bool = False) -> str:
    """Return the name of the tomogram that a table's value means: a name or a file.

    Parameters
    ----------
    value
        As it stands in the table.
    is_file
        Whether it is known to be a file (`rlnMicrographName`).  Otherwise only a value with a volume's suffix, or `.tomostar`, is a file; any
        other text is the name itself, slashes and all.

    Examples
    --------
    >>> listed_tomogram("TS_01"), listed_tomogram("TS_01.tomostar"), listed_tomogram("job6/tomograms/rec_TS_01.mrc"), listed_tomogram("../x")
    ('TS_01', 'TS_01', 'TS_01', '../x')
    """
    name = listed_name(value)
    suffixes = (*SUFFIXES, _LISTED_SUFFIX)
    if not is_file and not name.endswith(suffixes):
        return name
    path = name.replace("\\", "/")
    file = PurePosixPath(path).name
    if ".zarr" in file:
        return tomogram_name(path)
    short = _less(file, suffixes)
    # a file in a folder with this prefix is RELION's file of the tomogram without it; a bare name may be the user's own
    return short.removeprefix(RECONSTRUCTED) or short if "/" in path else short


def counterpart(name: str, known: Collection[str]) -> str:
    """Return the known name that this one means: the same, or with or without RELION's `rec_`; if none matches, the name itself.

    >>> counterpart("TS_01", ["rec_TS_01"]), counterpart("rec_TS_01", ["TS_01"]), counterpart("TS_02", ["TS_01"])
    ('rec_TS_01', 'TS_01', 'TS_02')
    """
    if name in known:
        return name
    other = name.removeprefix(RECONSTRUCTED) if name.startswith(RECONSTRUCTED) else RECONSTRUCTED + name
    return other if other in known else name


def distinct_names(paths: Sequence[str], *, from_folder: bool = False) -> dict[str, str]:
    """Name the inputs by their files, without the known suffixes, or by their folders.

    Returns
    -------
    dict
        Name to path, in the order given.

    Raises
    ------
    InputError
        If two inputs have the same name, or there is no input.
    """
    if not paths:
        raise InputError("no input is given; name at least one file")
    names: dict[str, str] = {}
    for path in paths:
        place(path)  # refuses an impossible path
        name = _folder_name(path) if from_folder else tomogram_name(path)
        if name in names:
            hint = (
                "rename one" if from_folder else "rename one, or name them by their folders (--name-from-folder of convert, stats and pick)"
            )
            raise InputError(f"two inputs have the name '{name}': {names[name]} and {path}; {hint}")
        names[name] = path
    return names


def _folder_name(path: str) -> str:
    parts = path.rstrip("/").split("/") if "://" in path else Path(os.path.abspath(path)).parts
    return parts[-3] if _VOXEL_SPACING.fullmatch(parts[-2]) and len(parts) > 2 else parts[-2]
