"""Commands on tables and results: evaluate, export, import, report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomostream import defaults
from tomostream.cli import options
from tomostream.cli.console import ConsoleProgress, print_json, print_table
from tomostream.cli.format_options import refuse_unused, takes_format_options
from tomostream.errors import InputError
from tomostream.formats.registry import FORMATS, Conversion, file_tomogram, format_of, format_to_read, read_table, write_table
from tomostream.remote.places import place
from tomostream.units import Length, parse_bytes, parse_shape

if TYPE_CHECKING:
    from tomostream.evaluation import Evaluation
    from tomostream.evaluation.answer import ScoresAnswer, TomogramsAnswer
    from tomostream.particles import Particles, Unit

FORMAT_HELP = "Format: " + ", ".join(FORMATS) + " (default: from the file's ending)."
Shape = Annotated[
    str | None,
    typer.Option(metavar="Z,Y,X", help="Shape of the tomograms in voxels, where the format counts from the centre.", show_default=False),
]
UNITS: dict[str, Unit] = {"vox": "voxel", "A": "angstrom"}


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    panel = "Tables and results"
    app.command(rich_help_panel=panel)(evaluate)
    app.command("export", rich_help_panel=panel)(export_table)
    app.command("import", rich_help_panel=panel)(import_table)
    app.command(rich_help_panel=panel)(report)


def headerless(columns: str | None, unit: str | None) -> Conversion:
    """Read --columns and --unit.

    Raises
    ------
    InputError
        If the unit is unknown.
    """
    if unit is not None and unit not in UNITS:
        raise InputError(f"--unit must be vox or A, found '{unit}'")
    return Conversion(columns=[c.strip() for c in columns.split(",")] if columns else None, unit=UNITS[unit] if unit else None)


@takes_format_options(reads=True)
def evaluate(
    picks: Annotated[str, typer.Option(metavar="FILE|DIR", help="Picks. Tomograms with a table, even an empty one, are scored.")],
    truth: Annotated[str, typer.Option(metavar="FILE|DIR", help="True centres.")],
    tolerance: Annotated[str, typer.Option(metavar="LENGTH", help="Largest distance of a match, as 10vox or 135A.")] = defaults.TOLERANCE,
    species: Annotated[list[str] | None, typer.Option(help="Species to score (repeat; default: all in the picks).")] = None,
    matching: Annotated[
        str,
        typer.Option(
            metavar="any|one-to-one",
            help="any: a true particle counts as found if a pick is within the tolerance; one-to-one: each pick matches at most one.",
        ),
    ] = defaults.MATCHING,
    beta: Annotated[float, typer.Option(help="Weight of recall in F-beta.")] = 1.0,
    curve: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write precision and recall for every score threshold, as CSV.")
    ] = None,
    columns: Annotated[str | None, typer.Option(metavar="x,y,z", help="Columns of a truth table without header.")] = None,
    unit: Annotated[str | None, typer.Option(metavar="vox|A", help="Unit of a truth table without header.")] = None,
    picks_format: Annotated[str | None, typer.Option(metavar="FORMAT", help="Of picks: " + FORMAT_HELP)] = None,
    truth_format: Annotated[str | None, typer.Option(metavar="FORMAT", help="Format of the truth, likewise.")] = None,
    tomogram: Annotated[str | None, typer.Option(help="Name of the picks' tomogram; replaces the name in the file (one tomogram).")] = None,
    tomograms: options.TomogramStores = None,
    voxel_size: options.VoxelSize = None,
    shape: Shape = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE.json", help="Write the result as JSON.")] = None,
    json: options.Json = False,
    *,
    format_options: dict[str, object],
) -> None:
    """Compare picks with the truth: TP, FP, FN, precision, recall and F1, per tomogram and pooled."""
    from tomostream.stages.evaluation.stage import EvaluateSettings, evaluate_files, write_curve, write_evaluation

    if matching not in ("any", "one-to-one"):
        raise InputError(f"--matching must be any or one-to-one, found '{matching}'")
    if not beta > 0:
        raise InputError(f"--beta must be above zero, found {beta:g}")
    progress = ConsoleProgress()
    conversion = _conversion(tomograms, voxel_size, shape, options=format_options, progress=progress)
    refuse_unused(conversion, *_formats_of((picks, picks_format), (truth, truth_format)))
    given = headerless(columns, unit)
    settings = EvaluateSettings(
        tolerance=Length.parse(tolerance, "--tolerance"), species=species, matching=matching, beta=beta, with_curve=curve is not None
    )
    found = evaluate_files(
        picks,
        truth,
        settings,
        conversion=replace(conversion, tomogram=tomogram),
        headerless=replace(conversion, columns=given.columns, unit=given.unit),
        picks_format=picks_format,
        truth_format=truth_format,
    )
    if output is not None:
        write_evaluation(place(output), found)
    if curve is not None:
        write_curve(place(curve), found)
    if found.unscored:
        progress.say(f"not scored, because they have no table of picks: {', '.join(found.unscored)}")
    if found.without_truth:
        progress.warn(f"no truth, so every pick counts as false: {', '.join(found.without_truth)}")
    if json:
        print_json(found.to_json())
    else:
        show_evaluation(found)


def _formats_of(*tables: tuple[str, str | None]) -> Iterator[str]:
    """The formats of local tables and folders of tables; a path that means no table is passed over: reading will tell what is wrong."""
    from tomostream.stages.shared.particle_tables import table_paths

    for path, name in tables:
        with contextlib.suppress(InputError):
            yield from {format_to_read(table, name) for table in table_paths(path, name) if isinstance(table, Path)}


def show_evaluation(evaluation: Evaluation) -> None:
    """Print an evaluation, one table per species, and warnings about suspicious numbers."""
    from tomostream.evaluation.answer import parts_of

    for kind, part in parts_of(evaluation.to_json()):
        _print_scores(part, title=kind)
    if evaluation.note is not None:
        ConsoleProgress().say(evaluation.note)


def _print_scores(values: TomogramsAnswer, title: str | None) -> None:
    columns = [key for key in ("tp", "fp", "fn", "precision", "recall", "f1", "f_beta") if key in values["pooled"]]

    def row(name: str, scores: ScoresAnswer) -> list[str]:
        cells = dict(scores.items())
        return [name, *(f"{cells[key]:.3f}" if isinstance(cells[key], float) else str(cells[key]) for key in columns)]

    rows = [row(name, scores) for name, scores in values["tomograms"].items()]
    print_table(["tomogram", *columns], [*rows, row("pooled", values["pooled"])], title=title)


def _conversion(tomograms: list[str] | None, voxel_size: float | None, shape: str | None, **others: Any) -> Conversion:
    from tomostream.stages.shared.particle_tables import conversion_from

    edges = parse_shape(shape, "--shape") if shape else None
    return conversion_from(options.stores_in(tomograms), options.check_voxel_size(voxel_size), shape=edges, **others)


@takes_format_options(writes=True)
def export_table(
    picks: Annotated[
        str,
        typer.Argument(
            metavar="PICKS|ZARR", help="Table of picks, or a folder of them; or a tomogram or score map (OME-Zarr).", show_default=False
        ),
    ],
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE|DIR", help="File to write, or a folder (with a final /) for one file per tomogram."),
    ],
    format_name: Annotated[str | None, typer.Option("--format", metavar="FORMAT", help=FORMAT_HELP)] = None,
    species: Annotated[str | None, typer.Option(help="Only this species.")] = None,
    tomograms: options.TomogramStores = None,
    voxel_size: options.VoxelSize = None,
    shape: Shape = None,
    json: options.Json = False,
    *,
    format_options: dict[str, object],
) -> None:
    """Write picks in the format of other software, or a tomogram or score map as MRC or OME-Zarr 0.4 (--format mrc, ome-zarr-0.4).

    Units and origins are converted with the given spacing and shape, never guessed.
    """
    if picks.rstrip("/").endswith(".zarr"):
        _export_volume(picks, output, format_name, tomograms, json)
        return
    from tomostream.stages.shared.particle_tables import read_scored, require_inside

    conversion = _conversion(tomograms, voxel_size, shape, options=format_options, progress=ConsoleProgress())
    refuse_unused(conversion, format_name or format_of(Path(output)))
    particles, _ = read_scored(picks, conversion)
    if species is not None:
        if species not in particles.species_names():
            raise InputError(f"--species {species}: {picks} has {', '.join(particles.species_names()) or 'no picks'}")
        particles = particles.of(species=species)
    require_inside(particles, conversion, picks)
    write_table(output, particles, format_name=format_name, conversion=conversion)
    _done(particles, output, json)


def _export_volume(store: str, output: str, format_name: str | None, tomograms: list[str] | None, json: bool) -> None:
    from tomostream.stages.conversion.volume_export import export_volume, volume_format

    form = volume_format(output, format_name)
    if len(tomograms or []) > 1:
        raise InputError(f"--tomograms names {len(tomograms or [])} stores; for a volume name the one tomogram whose origin it has")
    export_volume(
        store,
        Path(output),
        form,
        memory=parse_bytes(defaults.MEMORY),
        origin_of=tomograms[0] if tomograms else None,
        progress=ConsoleProgress(),
    )
    if json:
        print_json({"path": output, "format": form})


@takes_format_options(reads=True)
def import_table(
    file: Annotated[str, typer.Argument(metavar="FILE|DIR", help="Table of other software, or a folder of them.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PICKS", help="The CSV table to write.")],
    format_name: Annotated[str | None, typer.Option("--format", metavar="FORMAT", help=FORMAT_HELP)] = None,
    tomogram: Annotated[str | None, typer.Option(help="Name of the tomogram; replaces the name in the file (one tomogram).")] = None,
    species: Annotated[str | None, typer.Option(help="Name of the species; replaces the name in the file (one species).")] = None,
    columns: Annotated[str | None, typer.Option(metavar="x,y,z", help="Columns of a CSV table without header.")] = None,
    unit: Annotated[str | None, typer.Option(metavar="vox|A", help="Unit of a CSV table without header.")] = None,
    tomograms: options.TomogramStores = None,
    voxel_size: options.VoxelSize = None,
    shape: Shape = None,
    json: options.Json = False,
    *,
    format_options: dict[str, object],
) -> None:
    """Read a table of other software and write it as a tomostream table, in angstrom."""
    from tomostream.stages.shared.particle_tables import require_inside

    given = headerless(columns, unit)
    facts = {"tomogram": tomogram, "species": species, "columns": given.columns, "unit": given.unit, "options": format_options}
    conversion = _conversion(tomograms, voxel_size, shape, **facts, progress=ConsoleProgress())
    refuse_unused(conversion, *_formats_of((file, format_name)))
    particles = read_table(file, format_name=format_name, conversion=conversion)
    if particles.tomograms() == [""]:  # without a name, the file's name gives the tomogram
        particles = particles.named(tomogram=file_tomogram(place(file), conversion))
    require_inside(particles, conversion, file)
    write_table(output, particles, format_name="csv", conversion=conversion)
    _done(particles, str(output), json)


def _done(particles: Particles, output: str, json: bool) -> None:
    if json:
        print_json({"path": output, "particles": len(particles), "tomograms": particles.tomograms()})
    else:
        ConsoleProgress().say(f"{output}: {len(particles)} particles of {len(particles.tomograms())} tomograms")


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Project folder of `run` or `demo`.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.html", help="HTML page to write.")],
    json: options.Json = False,
) -> None:
    """Write one self-contained HTML page: slices with picks, the best and worst of them, scores, training, times, failures, settings."""
    from tomostream.pipeline.report_page import write_report

    problems = write_report(place(run), place(output))
    for problem in problems:
        ConsoleProgress().warn(problem)
    if json:
        print_json({"path": str(place(output)), "problems": problems})
