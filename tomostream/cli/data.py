"""Commands on volumes: inspect, convert, stats, labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tomostream import defaults
from tomostream.cli import options
from tomostream.cli.console import ConsoleProgress, print_json, print_table, show_done
from tomostream.cli.resource_options import takes_resources
from tomostream.cluster import Resources
from tomostream.errors import InputError, SomeFailedError
from tomostream.remote.places import Place, place
from tomostream.units import Length, parse_shape

if TYPE_CHECKING:
    from tomostream.stages.voxel_statistics.stage import StatsAnswer


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (inspect, convert, stats, labels):
        app.command(rich_help_panel="Volumes")(command)


def inspect(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="MRC files (also .gz, .bz2) or OME-Zarr stores.", show_default=False)
    ],
    assume_mrc: options.AssumeMrc = False,
    json: options.Json = False,
) -> None:
    """Show shape, type, voxel spacing and header statistics of volumes, and what is wrong with them. Reads only headers and a few voxels."""
    from tomostream.store.preflight import inspect_file

    found = [inspect_file(path, assume_mrc=assume_mrc) for path in options.stores_in(files)]
    if json:
        print_json([inspection.to_json() for inspection in found])
    else:
        for inspection in found:
            typer.echo(inspection.describe())
    broken = [(inspection.path, "; ".join(inspection.problems)) for inspection in found if not inspection.is_usable]
    if broken and len(broken) == len(found):
        raise InputError("\n".join(text if path in text else f"{path}: {text}" for path, text in broken))
    if broken:
        raise SomeFailedError(broken, len(found))


@takes_resources
def convert(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="MRC files: .mrc .rec .map, also .gz .bz2.", show_default=False)],
    output: options.OutFolder,
    voxel_size: options.VoxelSize = None,
    dtype: Annotated[str, typer.Option(metavar="keep|float32|float16|int8", help="Type of the stored voxels.")] = defaults.DTYPE,
    chunk: Annotated[
        str | None,
        typer.Option(metavar="N|Z,Y,X", help=f"Edge of a chunk, voxels (default: near {defaults.CHUNK_VOX}, what divides the volume)."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="N|Z,Y,X", help=f"Edge of a shard (a file), voxels (default: near {defaults.SHARD_VOX}, of whole chunks)."),
    ] = None,
    codec: Annotated[str, typer.Option(metavar="none|zstd[:level]|lz4-bitshuffle", help="Lossless compression.")] = defaults.CODEC,
    levels: Annotated[int | None, typer.Option(min=1, help="Levels of the pyramid (default: down to 64 voxels).")] = None,
    checksum: Annotated[bool, typer.Option("--checksum", help="Also store the SHA-256 of the source (reads it once more).")] = False,
    assume_mrc: options.AssumeMrc = False,
    name_from_folder: options.NameFromFolder = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    *,
    resources: Resources,
) -> None:
    """Convert MRC tomograms to chunked OME-Zarr stores with a pyramid of means: `DIR/NAME.ome.zarr`."""
    from tomostream.formats.lists import volumes
    from tomostream.stages.conversion.stage import convert_many
    from tomostream.store.conversion import ConvertSettings
    from tomostream.store.naming import distinct_names

    settings = ConvertSettings(
        voxel_size=options.check_voxel_size(voxel_size),
        dtype=dtype,
        chunk=None if chunk is None else parse_shape(chunk, "--chunk"),
        shard=None if shard is None else parse_shape(shard, "--shard"),
        codec=codec,
        levels=levels,
        checksum=checksum,
        assume_mrc=assume_mrc,
    )

    def work() -> list[Place]:
        return convert_many(
            distinct_names(volumes(files), from_folder=name_from_folder),
            place(output),
            settings,
            overwrite=overwrite,
            progress=ConsoleProgress(),
            resources=resources,
        )

    show_done(work, lambda paths: print_json([str(path) for path in paths]) if json else None)


@takes_resources
def stats(
    stores: options.Stores,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write DIR/NAME.stats.json instead of the store's attributes.")
    ] = None,
    name_from_folder: options.NameFromFolder = False,
    json: options.Json = False,
    *,
    resources: Resources,
) -> None:
    """Measure the mean and standard deviation of the finite voxels, raw and after standardising and clipping at 3 sigma."""
    from tomostream.stages.voxel_statistics.stage import stats_many
    from tomostream.store.naming import distinct_names

    def work() -> list[StatsAnswer]:
        return stats_many(
            distinct_names(options.stores_in(stores), from_folder=name_from_folder),
            out=None if output is None else place(output),
            progress=ConsoleProgress(),
            resources=resources,
        )

    show: Callable[[Sequence[StatsAnswer]], None] = print_json if json else _print_statistics
    show_done(work, show)


def _print_statistics(records: Sequence[StatsAnswer]) -> None:
    rows = [[f"{value:.6g}" if isinstance(value, float) else str(value) for value in record.values()] for record in records]
    print_table(("name", "mean", "std", "clipped_mean", "clipped_std", "finite", "total"), rows)


@takes_resources
def labels(
    store: Annotated[str, typer.Argument(metavar="ZARR", help="The tomogram's store.", show_default=False)],
    points: Annotated[str, typer.Option(metavar="TABLE", help="Table of particle centres.")],
    radius: Annotated[str, typer.Option(metavar="LENGTH", help="Radius of a label, as 135A or 10vox.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="ZARR", help="The mask's store.")],
    shape: Annotated[str, typer.Option(metavar="sphere|gaussian|cube", help="Shape of a label.")] = defaults.LABEL_SHAPE,
    columns: Annotated[str | None, typer.Option(metavar="x,y,z", help="Columns of a table without header.")] = None,
    unit: Annotated[str | None, typer.Option(metavar="vox|A", help="Unit of a table without header.")] = None,
    voxel_size: options.VoxelSizeUnsaid = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    *,
    resources: Resources,
) -> None:
    """Write a label mask on the tomogram's grid: 0 is background, 1 the first species, 2 the second, ..."""
    from tomostream.cli.tables import headerless
    from tomostream.stages.labels.stage import LabelSettings, write_labels

    if shape not in ("sphere", "gaussian", "cube"):
        raise InputError(f"--shape must be sphere, gaussian or cube, found '{shape}'")
    settings = LabelSettings(radius=Length.parse(radius, "--radius"), shape=shape, voxel_size=options.check_voxel_size(voxel_size))
    progress = ConsoleProgress()
    path, count = write_labels(
        store,
        points,
        place(output),
        settings,
        conversion=replace(headerless(columns, unit), progress=progress),
        resources=resources,
        overwrite=overwrite,
        progress=progress,
    )
    if json:
        print_json({"path": str(path), "points": count})
