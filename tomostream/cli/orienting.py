"""The command `orient`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tomostream import defaults
from tomostream.cli import options
from tomostream.cli.console import ConsoleProgress, print_json
from tomostream.errors import InputError
from tomostream.units import Length, parse_bytes

_TILTS = ",".join(f"{tilt:g}" for tilt in defaults.TILT_RANGE_DEG)


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(rich_help_panel="Tables and results")(orient)


def orient(
    picks: Annotated[str, typer.Argument(metavar="PICKS", help="Table of picks, or a folder of them.", show_default=False)],
    clicks: Annotated[
        list[str], typer.Option(metavar="TABLE", help="Particles to average, 50 or more if possible (repeat).", show_default=False)
    ],
    tomograms: options.OwnTomograms,
    radius: Annotated[str, typer.Option(metavar="LENGTH", help="Radius of the particle, as 135A or 10vox.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="TABLE", help="CSV table to write: the picks with their angles.")],
    best: Annotated[int, typer.Option(min=0, metavar="N", help="Average the best N picks besides the clicks.")] = 0,
    tilt_range: Annotated[
        str, typer.Option(metavar="FIRST,LAST", help="First and last tilt in degrees; what lies outside is the missing wedge.")
    ] = _TILTS,
    tilt_axis: Annotated[
        str, typer.Option(metavar="x|y", help="Axis about which the stage tilts; the beam is along z.")
    ] = defaults.TILT_AXIS,
    refine_positions: Annotated[bool, typer.Option("--refine-positions", help="Move the picks to where they fit best.")] = False,
    species: Annotated[str | None, typer.Option(help="Species to orient (default: the picks' only one).", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of starts and halves.")] = defaults.SEED,
    memory: Annotated[str, typer.Option(help="Memory budget.")] = defaults.MEMORY,
    json: options.Json = False,
) -> None:
    """Add orientations to picks: align each to the average of clicked particles, or say that there is no telling how they are turned."""
    from tomostream.stages.orientation.stage import OrientSettings, orient_files

    settings = OrientSettings(
        radius=Length.parse(radius, "--radius"),
        tilt_range=parse_tilts(tilt_range),
        tilt_axis=tilt_axis,
        best=best,
        refine_positions=refine_positions,
        species=species,
        seed=seed,
        memory=parse_bytes(memory, "--memory"),
    )
    done = orient_files(picks, clicks, options.stores_in(tomograms), output, settings, progress=ConsoleProgress())
    if json:
        told = {"picks": len(done.picks), "oriented": done.count, "averaged": done.averaged, "agreement": done.evidence.agreement}
        print_json({"path": str(output), **told})


def parse_tilts(text: str) -> tuple[float, float]:
    """Read `-60,60`.

    Raises
    ------
    InputError
        If these are not two numbers.
    """
    try:
        first, last = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--tilt-range must be two angles in degrees, as -60,60; found '{text}'") from None
    return first, last
