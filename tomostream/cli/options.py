"""The options that several commands share, with their units and defaults."""

from __future__ import annotations

import glob
import math
import os
from pathlib import Path, PurePath
from typing import Annotated

import typer

from tomostream import defaults
from tomostream.cluster import ClusterSettings
from tomostream.errors import InputError
from tomostream.remote.places import RemotePath
from tomostream.units import parse_bytes

RESOURCES = "Resources"

Json = Annotated[bool, typer.Option("--json", help="Print JSON, and only that, on standard output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that were made with other settings.")]
OutFolder = Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")]
Stores = Annotated[list[str], typer.Argument(metavar="ZARR...", help="OME-Zarr stores: folders or URLs.", show_default=False)]
ClusterKind = Annotated[str, typer.Option("--cluster", metavar="none|local|slurm", help="Where tasks run.", rich_help_panel=RESOURCES)]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS|FILE", help="A running Dask scheduler.", rich_help_panel=RESOURCES, show_default=False),
]
Workers = Annotated[
    int, typer.Option("--workers", min=1, help="Processes; with --cluster none: threads for input and output.", rich_help_panel=RESOURCES)
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, help="Threads of torch, per block (default: all cores, divided among the workers).", rich_help_panel=RESOURCES
    ),
]
Memory = Annotated[str, typer.Option("--memory", metavar="SIZE", help="Budget of one process; GB = 10^9 bytes.", rich_help_panel=RESOURCES)]
GpuMemory = Annotated[
    str | None,
    typer.Option("--gpu-memory", metavar="SIZE", help="Budget on the GPU (default: four fifths of it).", rich_help_panel=RESOURCES),
]
ClusterOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--cluster-option",
        metavar="KEY=VALUE",
        help="Any key of the configuration's `cluster` (repeat): queue, account, walltime, gpus, train_processes, options, interface, port, dashboard, lifetime, lifetime_stagger, log_folder.",
        rich_help_panel=RESOURCES,
        show_default=False,
    ),
]
BlockSize = Annotated[
    str | None,
    typer.Option("--block-size", metavar="N|Z,Y,X", help="Edge of a block's core in voxels, halo extra (default: from the budget)."),
]
BoxOption = Annotated[
    str | None, typer.Option("--box", metavar="Z0:Z1,Y0:Y1,X0:X1", help="Only this part, in voxels, half-open.", show_default=False)
]
MaskOption = Annotated[
    str | None, typer.Option("--mask", metavar="ZARR", help="Only where this store on the same grid is not zero.", show_default=False)
]
NameFromFolder = Annotated[bool, typer.Option("--name-from-folder", help="Name tomograms by their files' folders.")]
VoxelSize = Annotated[float | None, typer.Option("--voxel-size", metavar="ANGSTROM", help="Voxel spacing in angstrom.", show_default=False)]
TomogramStores = Annotated[
    list[str] | None,
    typer.Option("--tomograms", metavar="ZARR", help="Stores that tell spacing and shape (one or more, or a folder of them)."),
]


def cluster_settings(
    cluster: str = defaults.CLUSTER,
    scheduler: str | None = None,
    workers: int = defaults.WORKERS,
    threads: int | None = None,
    memory: str = defaults.MEMORY,
    gpu_memory: str | None = None,
    cluster_option: list[str] | None = None,
) -> ClusterSettings:
    """Check the resource options (every computing stage takes all; `gpu_memory` and `threads` serve those that have a network).

    Raises
    ------
    InputError
        If the kind of cluster, the size or an option is unknown.
    """
    from tomostream.config import cluster_from

    if cluster not in ("none", "local", "slurm"):
        raise InputError(f"--cluster must be none, local or slurm, found '{cluster}'")
    if gpu_memory is not None:
        parse_bytes(gpu_memory, "--gpu-memory")
    values = {"kind": cluster, "scheduler": scheduler, "workers": workers, "threads": threads} | key_values(cluster_option)
    return ClusterSettings.configured(cluster_from(values), parse_bytes(memory, "--memory"))


def key_values(given: list[str] | None) -> dict[str, str | list[str]]:
    """Parse the values of --cluster-option; `options` may be given several times.

    Raises
    ------
    InputError
        If one is no KEY=VALUE, or a key is given twice.
    """
    result: dict[str, str | list[str]] = {}
    sbatch: list[str] = []
    for text in given or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"--cluster-option must be KEY=VALUE, as walltime=02:00:00, found '{text}'")
        if key in ("kind", "scheduler", "workers", "threads"):
            raise InputError(f"--cluster-option {text}: give --{'cluster' if key == 'kind' else key} instead")
        if key in result:
            raise InputError(f"--cluster-option {key} is given twice: {result[key]} and {value}")
        if key == "options":
            sbatch.append(value)
        else:
            result[key] = value
    return result | ({"options": sbatch} if sbatch else {})


def check_voxel_size(value: float | None) -> float | None:
    """Refuse a voxel spacing that can't be one.

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
    """Expand folders of stores, and patterns of URLs (a shell expands only those of paths), into the stores they mean."""
    result: list[str] = []
    for given in paths or []:
        if "://" in given and glob.has_magic(given.partition("?")[0]):
            found = [str(one) for one in RemotePath(given).matches() if not str(one).endswith(".partial")]
            if not found:
                raise InputError(f"nothing matches {given}")
            result.extend(found)
            continue
        path = given if PurePath(given).name else os.path.abspath(given)  # `.` has no name
        folder = Path(path)
        is_store = path.rstrip("/").endswith(".zarr") or (folder / "zarr.json").exists() or (folder / ".zattrs").exists()
        inner = [] if is_store or "://" in path else sorted(str(p) for p in folder.glob("*.zarr"))
        result.extend(inner or [path])
    return result
