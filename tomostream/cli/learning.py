"""Commands that train and pick: train, predict, pick, suggest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tomostream import defaults
from tomostream.catalogue import PICKERS, installed
from tomostream.cli import options
from tomostream.cli.console import ConsoleProgress, print_json, show_done
from tomostream.cli.resource_options import MEMORY, Overrides, takes_overrides, takes_resources
from tomostream.cluster import Resources
from tomostream.cluster.queues import job_queue_named
from tomostream.errors import InputError
from tomostream.remote.path_kinds import Kind, Wanted, instead, is_project, kind_at
from tomostream.remote.places import Place, place
from tomostream.units import Length, parse_box, parse_bytes, parse_shape


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (train, predict, pick, suggest):
        app.command(rich_help_panel="Learning and picking")(command)


@takes_overrides
def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml", help="The configuration; see docs/configuration.md.", show_default=False)
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Model folder (default: PROJECT/model).")] = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    *,
    overrides: Overrides,
) -> None:
    """Train on streamed subtomograms; write model.safetensors, model.json and metrics.csv.

    Runs in this process, or as a job of a queue (--cluster). For several processes: torchrun -m tomostream train.
    """
    from tomostream.config import load_configuration
    from tomostream.pipeline.training import train_configured

    if overrides.gpu_memory is not None:
        parse_bytes(overrides.gpu_memory, "--gpu-memory")
    runs_elsewhere = overrides.cluster not in (None, defaults.CLUSTER) and job_queue_named(overrides.cluster) is None
    if runs_elsewhere or overrides.scheduler is not None or overrides.workers not in (None, 1):
        raise InputError(
            f"train runs in one process: leave out --scheduler and --workers, and use --cluster {defaults.CLUSTER} or a queue that runs jobs; "
            "to train in several processes, use torchrun, or cluster.train_processes in a job"
        )
    # training takes as much of the GPU as its batch needs
    configuration = replace(overrides, workers=None, gpu_memory=None).applied_to(load_configuration(config))
    if overrides.threads is not None and job_queue_named(configuration.cluster.kind) is None:
        import torch

        torch.set_num_threads(overrides.threads)
    folder = train_configured(configuration, out=None if output is None else place(output), overwrite=overwrite, progress=ConsoleProgress())
    if json:
        print_json({"model": str(folder)})


@takes_resources
def predict(
    stores: options.Stores,
    model: Annotated[Path, typer.Option(metavar="DIR", help="Model folder.")],
    output: options.OutFolder,
    score_dtype: Annotated[str, typer.Option(metavar="float32|float16|int8", help="Type of the stored scores.")] = defaults.SCORE_DTYPE,
    logits: Annotated[bool, typer.Option("--logits", help="Store logits instead of probabilities.")] = False,
    grid: Annotated[
        str,
        typer.Option(
            metavar="tomogram|network",
            help="Where scores are stored: on the tomogram's grid, or as logits at the level that the network reads (an eighth of the disk at level 1), which are interpolated on reading.",
        ),
    ] = defaults.SCORE_GRID,
    block_size: options.BlockSize = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda")] = defaults.DEVICE,
    precision: Annotated[
        str, typer.Option(metavar="float32|bf16", help="Precision of the computation; bf16 is faster if the processor supports it.")
    ] = defaults.PREDICT_PRECISION,
    box: options.BoxOption = None,
    mask: options.MaskOption = None,
    voxel_size: options.VoxelSizeUnsaid = None,
    mixed_devices: Annotated[
        bool,
        typer.Option(
            "--mixed-devices",
            help="Continue scores that another kind of processor, thread count or torch version began; the store records it.",
        ),
    ] = False,
    name_from_folder: options.NameFromFolder = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    *,
    resources: Resources,
) -> None:
    """Score every voxel: a map of probabilities on the tomogram's grid, DIR/NAME.ome.zarr (DIR/SPECIES/... for several species)."""
    from tomostream.stages.prediction.stage import PredictSettings, predict_many
    from tomostream.store.naming import distinct_names

    for name, value, allowed in (
        ("--score-dtype", score_dtype, ("float32", "float16", "int8")),
        ("--device", device, ("auto", "cpu", "cuda")),
        ("--precision", precision, ("float32", "bf16")),
        ("--grid", grid, ("tomogram", "network")),
    ):
        if value not in allowed:
            raise InputError(f"{name} must be {', '.join(allowed[:-1])} or {allowed[-1]}, found '{value}'")
    settings = PredictSettings(
        precision=precision,
        score_dtype=score_dtype,
        logits=logits,
        grid=grid,
        block_size=parse_shape(block_size, "--block-size") if block_size else None,
        device=device,
        box=parse_box(box, "--box") if box else None,
        mask=mask,
        mixed_devices=mixed_devices,
        voxel_size=options.check_voxel_size(voxel_size),
    )

    def work() -> list[list[Place]]:
        return predict_many(
            distinct_names(options.stores_in(stores), from_folder=name_from_folder),
            model=place(model),
            out=place(output),
            settings=settings,
            resources=resources,
            overwrite=overwrite,
            progress=ConsoleProgress(),
        )

    show_done(work, lambda made: print_json([str(path) for paths in made for path in paths]) if json else None)


@takes_resources
def pick(
    stores: options.Stores,
    radius: Annotated[str, typer.Option(metavar="LENGTH", help="Least distance between two picks, as 135A or 10vox.")],
    output: options.OutFolder,
    count: Annotated[
        int | None, typer.Option(metavar="N", help="Keep exactly the best N picks of each tomogram.", show_default=False)
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Keep all picks with a score above T.", show_default=False)] = None,
    expected: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="About this many particles are in each tomogram; the scores of the peaks decide how many are picked.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(installed(PICKERS)),
            help="The picker, which makes picks from scores (docs/methods.md describes each). Default: the score map's.",
            show_default=False,
        ),
    ] = None,
    species: Annotated[str | None, typer.Option(help="Name in the table (default: the score map's, else 'particle').")] = None,
    block_size: options.BlockSize = None,
    smooth: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="Average scores over a ball of this radius first.", show_default=False)
    ] = None,
    border: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="Keep picks at least this far from the faces of the volume.", show_default=False)
    ] = None,
    box: options.BoxOption = None,
    mask: options.MaskOption = None,
    voxel_size: options.VoxelSizeUnsaid = None,
    name_from_folder: options.NameFromFolder = False,
    json: options.Json = False,
    *,
    resources: Resources,
) -> None:
    """Pick the peaks of score maps, best first, exactly as over the whole volume: DIR/NAME.csv."""
    from tomostream.picking.how_many import how_many
    from tomostream.stages.picks.stage import PickSettings, pick_many
    from tomostream.store.naming import distinct_names

    settings = PickSettings(
        radius=Length.parse(radius, "--radius"),
        how_many=how_many(count=count, threshold=threshold, expected=expected),
        species=species,
        smooth=Length.parse(smooth, "--smooth") if smooth else None,
        border=Length.parse(border, "--border") if border else None,
        block_size=parse_shape(block_size, "--block-size") if block_size else None,
        box=parse_box(box, "--box") if box else None,
        mask=mask,
        method=method,
        voxel_size=options.check_voxel_size(voxel_size),
    )

    def work() -> list[Place]:
        return pick_many(
            distinct_names(options.stores_in(stores), from_folder=name_from_folder),
            out=output,
            settings=settings,
            resources=resources,
            progress=ConsoleProgress(),
        )

    show_done(work, lambda tables: print_json([str(path) for path in tables]) if json else None)


def suggest(
    inputs: Annotated[list[str], typer.Argument(metavar="RUN|ZARR...", help="Project folder of `run`, or score maps.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="TABLE", help="The table of places to write.")],
    points: Annotated[int, typer.Option(min=1, help="Number of places to suggest, over all tomograms.")] = defaults.SUGGESTED_POINTS,
    radius: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="Radius of the particle, as 135A or 10vox (score maps).", show_default=False)
    ] = None,
    expected: Annotated[
        int | None,
        typer.Option(
            "--expected",
            "--count",
            metavar="N",
            help="Particles expected in one tomogram (score maps): places are doubtful around this rank. How many places: --points.",
            show_default=False,
        ),
    ] = None,
    smooth: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="Average scores over a ball of this radius first.", show_default=False)
    ] = None,
    species: Annotated[str | None, typer.Option(help="Name in the table (default: the score map's, else 'particle').")] = None,
    known: Annotated[
        list[str] | None, typer.Option(metavar="TABLE", help="Places that are labelled already (repeat; default: the run's clicks).")
    ] = None,
    json: options.Json = False,
    memory: MEMORY = defaults.MEMORY,
) -> None:
    """Suggest where to look next: likely misses and likely false picks, spread over the tomograms."""
    from tomostream.stages.picks.suggestions import SuggestSettings, suggest_from_maps

    is_of_run = len(inputs) == 1 and is_project(Path(inputs[0]))
    if is_of_run:
        given = {"--radius": radius, "--expected": expected, "--smooth": smooth, "--species": species, "--known": known}
        if unused := [option for option, value in given.items() if value]:
            ConsoleProgress().warn(f"{', '.join(unused)}: for score maps only; those of the run {inputs[0]} are taken")
        from tomostream.pipeline.suggesting import suggest_from_project

        places = suggest_from_project(Path(inputs[0]), points=points, output=output, progress=ConsoleProgress())
    elif radius is None or expected is None:
        for path in inputs:
            if kind_at(path) not in (Kind.STORE, Kind.FOLDER, None) and (other := instead(path, Wanted.PROJECT)) is not None:
                raise InputError(other)
        raise InputError(
            "suggest needs --radius, and --expected (particles in one tomogram; --points is the number of places), for score maps; give them, or the "
            "project folder of a run"
        )
    else:
        settings = SuggestSettings(
            radius=Length.parse(radius, "--radius"),
            expected=expected,
            points=points,
            smooth=Length.parse(smooth, "--smooth") if smooth else None,
            species=species,
        )
        places = suggest_from_maps(
            options.stores_in(inputs),
            settings,
            known=known or [],
            output=output,
            memory=parse_bytes(memory, "--memory"),
            progress=ConsoleProgress(),
        )
    if json:
        print_json({"path": str(output), "points": len(places)})
