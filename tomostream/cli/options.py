"""The options that several commands share, with their units and defaults."""

from __future__ import annotations

import glob
import math
import os
from pathlib import Path, PurePath
from typing import Annotated

import typer

from tomostream.errors import InputError
from tomostream.remote.places import RemotePath

Json = Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that were made with other settings.")]
OutFolder = Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")]
Stores = Annotated[list[str], typer.Argument(metavar="ZARR...", help="OME-Zarr stores: folders or URLs.", show_default=False)]
BlockSize = Annotated[
    str | None,
    typer.Option("--block-size", metavar="N|Z,Y,X", help="Edge of a block's core in voxels, without the halo (default: from the budget)."),
]
BoxOption = Annotated[
    str | None, typer.Option("--box", metavar="Z0:Z1,Y0:Y1,X0:X1", help="Only this part, in voxels, half-open.", show_default=False)
]
MaskOption = Annotated[
    str | None, typer.Option("--mask", metavar="ZARR", help="Only where this store, on the same grid, is not zero.", show_default=False)
]
NameFromFolder = Annotated[bool, typer.Option("--name-from-folder", help="Name tomograms by their files' folders.")]
AssumeMrc = Annotated[
    bool, typer.Option("--assume-mrc", help="Read files without the stamp `MAP ` as MRC, if their header describes a volume.")
]
VoxelSize = Annotated[float | None, typer.Option("--voxel-size", metavar="ANGSTROM", help="Voxel spacing in angstrom.", show_default=False)]
VoxelSizeUnsaid = Annotated[
    float | None,
    typer.Option("--voxel-size", metavar="ANGSTROM", help="Voxel spacing in angstrom, for stores without one.", show_default=False),
]
TomogramStores = Annotated[
    list[str] | None,
    typer.Option(
        "--tomograms", metavar="ZARR", help="Stores from which to take voxel spacing and shape (one or more, or a folder of them)."
    ),
]

OwnTomograms = Annotated[
    list[str],
    typer.Option("--tomograms", metavar="ZARR", help="Stores of the tomograms (one or more, or a folder of them).", show_default=False),
]


def check_voxel_size(value: float | None) -> float | None:
    """Refuse an impossible voxel spacing.

    Raises
    ------
    InputError
        If it is not positive and finite.
    """
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise InputError(f"--voxel-size must be above zero and finite (angstrom), found {value:g}")
    return value


def spread_tomograms(arguments: list[str]) -> list[str]:
    """Let `--tomograms` take several stores, as a shell's `*.zarr` gives them: repeat the option for each."""
    result: list[str] = []
    is_following = False
    for i, argument in enumerate(arguments):
        if is_following and argument.rstrip("/").endswith(".zarr") and arguments[i - 1] != "--tomograms":
            result.append("--tomograms")
        elif is_following and arguments[i - 1] != "--tomograms":
            is_following = False
        if argument == "--tomograms":
            is_following = True
        result.append(argument)
    return result


def stores_in(paths: list[str] | None) -> list[str]:
    """Expand folders of stores, files that list some, and patterns of URLs (a shell expands only those of paths), into the stores they mean."""
    from tomostream.formats.lists import volumes

    result: list[str] = []
    for given in volumes(paths or []):
        if "://" in given and glob.has_magic(given.partition("?")[0]):
            found = [str(one) for one in RemotePath(given).matches() if not str(one).endswith(".partial")]
            if not found:
                raise InputError(f"nothing matches {given}")
            result.extend(found)
            continue
        path = given if PurePath(given).name else os.path.abspath(given)  # `.` has no name
        folder = Path(path)
        is_store = path.rstrip("/").endswith(".zarr") or (folder / "zarr.json").exists() or (folder / ".zattrs").exists()
        is_folder = not is_store and "://" not in path and folder.is_dir()
        inner = sorted(str(p) for p in folder.glob("*.zarr")) if is_folder else []
        result.extend(inner or [path])
    return result
