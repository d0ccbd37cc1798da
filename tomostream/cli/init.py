"""The command that writes a first configuration: init."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tomostream.cli import options
from tomostream.cli.console import ConsoleProgress, print_json
from tomostream.units import Length


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(rich_help_panel="The whole path")(init)


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder with the tomograms (or with folders of them).", show_default=False)
    ],
    species: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Name of the particle (repeat; default: those that the clicks name).", show_default=False),
    ] = None,
    radius: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="Its radius, as 135A or 10vox; of several, each one's.", show_default=False)
    ] = None,
    clicks: Annotated[
        list[str] | None, typer.Option(metavar="TABLE", help="Clicked centres to learn from (repeat).", show_default=False)
    ] = None,
    validate: Annotated[
        list[str] | None,
        typer.Option(metavar="TABLE", help="Clicked centres in another tomogram, to choose the best epoch (repeat).", show_default=False),
    ] = None,
    expected: Annotated[
        int | None, typer.Option(metavar="N", help="Estimated number of particles per tomogram.", show_default=False)
    ] = None,
    truth: Annotated[
        str | None, typer.Option(metavar="TABLE", help="Positions of all particles, if they are known.", show_default=False)
    ] = None,
    voxel_size: options.VoxelSizeUnsaid = None,
    project: Annotated[str, typer.Option(metavar="DIR", help="Folder for all results of a run.")] = "my-project",
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.yaml", help="The configuration to write.")] = Path(
        "tomostream.yaml"
    ),
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Write a commented configuration for the tomograms in a folder; with species, radius and clicks it is ready to run."""
    from tomostream.pipeline.first_configuration import Answers, write_first_configuration

    answers = Answers(
        species=tuple(species or ()),
        radius=None if radius is None else Length.parse(radius, "--radius"),
        expected=expected,
        clicks=tuple(clicks or ()),
        validate=tuple(validate or ()),
        truth=truth,
        voxel_size=options.check_voxel_size(voxel_size),
        project=project,
    )
    progress = ConsoleProgress()
    missing = write_first_configuration(folder, answers, output, overwrite=overwrite, progress=progress)
    if json:
        print_json({"path": str(output), "missing": missing})
    elif missing:
        progress.say(f"{output}: please fill in: {'; '.join(missing)}")
    else:
        progress.say(f"{output}: next: tomostream run {output} --dry-run")
