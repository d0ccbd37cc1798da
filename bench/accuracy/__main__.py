"""How do the systems of the paper compare, from 10, 30 and 100 clicks, and what does each part of ours contribute?

Each experiment trains on the clicks of tomogram 01, validates on those of 02, and picks in 01 to 04, at the true count and at the count that the
software chooses.  Truth is used for evaluation only (and as labels of the upper bounds `full...`).  Each experiment has one JSON file of
results; one that is done is not run again, so the command can be stopped and started at any time.

    python -m bench.accuracy --work FOLDER [--data FOLDER] [--seeds 3] [--systems fused,pn,...] [--clicks 10,30,100] [--domains DEF,VPP]
                             [--species ribosome,fas,both] [--threads N] [--crossed] [--tables] [--pictures FOLDER]

`--data` is the folder of `pombe_sim` (default: TOMOSTREAM_DATA/pombe_sim); `--crossed` takes the models that are there to the other domain's
test tomograms; `--tables` runs nothing and prints the tables of what is there; `--pictures` draws them, and picks of the default system.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.accuracy.crossing import cross
from bench.accuracy.pictures import draw_curves, draw_picks
from bench.accuracy.systems import CLICKS, DOMAINS, SPECIES, SYSTEMS, Experiment, configuration, experiments
from bench.accuracy.tables import write_crossed, write_tables
from tomostream import __version__
from tomostream.cluster import Resources
from tomostream.config import configuration_from
from tomostream.formats.registry import Conversion, read_table, write_table
from tomostream.particles import Particles
from tomostream.pipeline.execution import run_project
from tomostream.progress import Progress
from tomostream.remote.atomic_files import write_atomically
from tomostream.stages.conversion.stage import convert_many
from tomostream.store.conversion import ConvertSettings
from tomostream.store.naming import distinct_names


def prepare(data: Path, work: Path, domains: list[str]) -> None:
    """Convert the tomograms, and write the tables of all particles of the training tomograms."""
    files = [str(path) for domain in domains for path in sorted(data.glob(f"{domain}_*.mrc"))]
    convert_many(distinct_names(files), work / "tomograms", ConvertSettings(), resources=Resources(), overwrite=False, progress=Progress())
    truth = read_table(str(data / "truth.csv"), conversion=Conversion())
    for domain in domains:
        for kind in ("ribosome", "fas"):
            own: Particles = truth.of(tomogram=f"{domain}_01", species=kind)
            write_table(work / f"truth_{domain}_01_{kind}.csv", own, format_name="csv", conversion=Conversion(spacing=13.48))


def run(experiment: Experiment, data: Path, work: Path, threads: int | None) -> dict[str, Any]:
    """Run one experiment; return the values that the tables need."""
    values = configuration(experiment, data, work) | {"cluster": {"threads": threads}}
    if threads is not None:
        torch.set_num_threads(threads)
    project = Path(values["project"])
    shutil.rmtree(project, ignore_errors=True)  # left by a killed run, whose time would not be counted
    wall, used = time.perf_counter(), time.process_time()
    given = configuration_from(values, experiment.name)
    trained = run_project(given, stages=["stats", "train"], overwrite=False, progress=Progress())
    del trained
    seconds = {"train_wall": time.perf_counter() - wall, "train_cpu": time.process_time() - used}
    run_project(given, stages=["predict", "pick", "evaluate"], overwrite=False, progress=Progress())
    seconds["all_wall"] = time.perf_counter() - wall
    at_truth = json.loads((project / "evaluation.json").read_text())
    chosen = None
    if not experiment.system.startswith(("deepetpicker", "slices2d", "full_deepetpicker")):
        unknown = configuration_from(values | {"pick": values["pick"] | {"count": "auto"}}, experiment.name)
        run_project(unknown, stages=["pick", "evaluate"], overwrite=False, progress=Progress())
        chosen = json.loads((project / "evaluation.json").read_text())
    shutil.rmtree(project / "scores")
    shutil.rmtree(project / "tomograms", ignore_errors=True)
    return {
        "experiment": experiment.values,
        "at_true_count": at_truth,
        "at_chosen_count": chosen,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "commit": commit(),
        "version": __version__,
    }


def commit() -> str:
    """Return the commit of the clone, or an empty text."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return done.stdout.strip()


def _check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Check the options before anything runs."""
    for option, allowed in (("systems", tuple(SYSTEMS)), ("domains", DOMAINS), ("species", SPECIES), ("clicks", CLICKS)):
        unknown = sorted(set(getattr(given, option).split(",")) - set(allowed))
        if unknown:
            parser.error(f"--{option}: there is no {', '.join(unknown)}; there are {','.join(allowed)}")
    for option in ("seeds", "threads"):
        value = getattr(given, option)
        if value is not None and value < 1:
            parser.error(f"--{option} must be at least 1, found {value}")
    for option in ("work", "pictures"):
        folder = getattr(given, option)
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"--{option}: {folder} can't be made: {error.strerror}")
    if not (given.tables or (given.data / "truth.csv").is_file()):
        parser.error(f"--data: {given.data} has no truth.csv; give the folder of pombe_sim, or set TOMOSTREAM_DATA to the folder above it")


def main() -> None:
    """Run the experiments that are missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made; run again with the same one to go on")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of pombe_sim (default: TOMOSTREAM_DATA/pombe_sim)",
        default=Path(os.environ.get("TOMOSTREAM_DATA", "../shared/data")) / "pombe_sim",
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many; they count from 0")
    for name, default in (
        ("systems", ",".join(SYSTEMS)),
        ("clicks", ",".join(CLICKS)),
        ("domains", ",".join(DOMAINS)),
        ("species", ",".join(SPECIES)),
    ):
        parser.add_argument(f"--{name}", default=default, help="some of %(default)s")
    parser.add_argument("--threads", type=int, help="of torch (default: all cores)")
    parser.add_argument("--crossed", action="store_true", help="take the models that are there to the other domain's tomograms")
    parser.add_argument("--tables", action="store_true", help="run nothing, print the tables of what is there")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw the curve over clicks, and picks of the default system")
    given = parser.parse_args()
    _check(parser, given)
    results: Path = given.work / "results"
    crossed: Path = given.work / "results" / "crossed"
    crossed.mkdir(parents=True, exist_ok=True)
    if given.pictures is not None:
        draw_curves(results, given.pictures / "accuracy.png")
        for domain in given.domains.split(","):
            draw_picks(Experiment(domain, "ribosome", 10, "fused", 0), given.data, given.work, given.pictures)
    elif not given.tables:
        domains = given.domains.split(",")
        prepare(given.data, given.work, list(DOMAINS) if given.crossed else domains)
        wanted = experiments(
            seeds=given.seeds,
            systems=given.systems.split(","),
            clicks=[int(count) for count in given.clicks.split(",")],
            domains=domains,
            species=given.species.split(","),
        )
        if given.crossed:
            wanted = [one for one in wanted if (results / f"{one.name}.json").exists() and one.species != "both"]
        into, what = (crossed, cross) if given.crossed else (results, run)
        missing = [one for one in wanted if not (into / f"{one.name}.json").exists()]
        took: list[float] = []
        for number, one in enumerate(missing):
            start = time.perf_counter()
            write_atomically(into / f"{one.name}.json", json.dumps(what(one, given.data, given.work, given.threads), indent=1) + "\n")
            took.append(time.perf_counter() - start)
            left = float(np.mean(took)) * (len(missing) - number - 1) / 60
            print(f"{one.name}: {took[-1]:.0f} s; {number + 1}/{len(missing)}, about {left:.0f} min left", flush=True)
    write_tables(results)
    write_crossed(crossed)


if __name__ == "__main__":
    main()
