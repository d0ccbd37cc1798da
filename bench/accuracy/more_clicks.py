"""What do more clicks bring, in one tomogram or spread over several, and how many training steps do they deserve?

    python -m bench.accuracy.more_clicks --work FOLDER --kind DEF --clicks 10 --in 1
    python -m bench.accuracy.more_clicks --work FOLDER --kind DEF --clicks 3,3,2,2 --in 1234
    python -m bench.accuracy.more_clicks --work FOLDER --kind DEF --clicks 25 --in 1234 --seed 1 --steps 1200 --channels 16,32,64

Ribosomes are drawn at random from the truth of each tomogram named by `--in`, and moved by 1 to 3 voxels, as a person would click them.  No
validation, no expected number; picks at the true count in all four tomograms.  Choose nothing by 03 and 04.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np

from bench.pretraining.transfer import read_points
from tomostream.config import configuration_from
from tomostream.pipeline.execution import run_project
from tomostream.progress import Progress

_HEAD = "tomogram,species,x_voxel,y_voxel,z_voxel"
_LAST = (111, 319, 319)  # voxel of the tomograms, z y x


def clicked(truth: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` particles (n, 3) at random, each moved by 1 to 3 voxels in a random direction."""
    some = truth[rng.permutation(len(truth))[:count]]
    direction = rng.normal(size=some.shape)
    direction /= np.linalg.norm(direction, axis=1)[:, None]
    return np.clip(some + direction * rng.uniform(1, 3, len(some))[:, None], 0, _LAST)


def table(points: dict[str, np.ndarray]) -> str:
    """Return a table of ribosomes by tomogram, voxels."""
    rows = [f"{name},ribosome,{x:.3f},{y:.3f},{z:.3f}" for name, own in points.items() for z, y, x in own]
    return "\n".join([_HEAD, *rows]) + "\n"


def main() -> None:
    """Read the command line, run, and print F1."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accuracy.more_clicks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kind", choices=("DEF", "VPP"), required=True)
    parser.add_argument(
        "--clicks", required=True, help="in each tomogram; one number for all, or as many as tomograms, separated by commas"
    )
    parser.add_argument("--in", dest="where", default="1", help="numbers of the clicked tomograms (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the clicks")
    parser.add_argument("--steps", type=int, help="of training (default: as many as the product takes)")
    parser.add_argument("--channels", help="of the network, as 16,32,64")
    given = parser.parse_args()
    root = Path(os.environ["TOMOSTREAM_DATA"]) / "pombe_sim"
    names = [f"{given.kind}_0{number}" for number in (1, 2, 3, 4)]
    truth = {name: read_points(root / "truth.csv", tomogram=name, species="ribosome") for name in names}
    counts = [int(one) for one in given.clicks.split(",")]
    counts = counts if len(counts) > 1 else counts * len(given.where)
    rng = np.random.default_rng([given.seed, sum(counts) // len(counts), ord(given.kind[0])])
    where = [f"{given.kind}_0{number}" for number in given.where]
    clicks = {name: clicked(truth[name], count, rng) for name, count in zip(where, counts, strict=True)}
    options = f"{given.kind}_{given.clicks}_{given.where}_{given.seed}_{given.steps or 'default'}_{given.channels or 'default'}"
    folder = given.work / options
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clicks.csv").write_text(table(clicks))
    (folder / "truth.csv").write_text(table(truth))
    content = {
        "project": str(folder / "project"),
        "tomograms": [str(root / f"{name}.mrc") for name in names],
        "species": [{"name": "ribosome", "radius": "10vox"}],
        "labels": {"train": [str(folder / "clicks.csv")]},
        "pick": {"count": "truth"},
        "truth": str(folder / "truth.csv"),
        "tolerance": "10vox",
    }
    if given.steps is not None:
        content["train"] = {"steps": given.steps}
    if given.channels is not None:
        content["network"] = {"channels": [int(one) for one in given.channels.split(",")]}
    run_project(configuration_from(content, "the benchmark"), stages=[], overwrite=False, progress=Progress())
    found = json.loads((folder / "project" / "evaluation.json").read_text())["tomograms"]
    print(f"{options}: " + ", ".join(f"{name} {found[name]['f1']:.3f}" for name in names))
    hits, wrong, missed = (sum(found[name][key] for name in names[2:]) for key in ("tp", "fp", "fn"))
    print(f"03 and 04 pooled: {2 * hits / (2 * hits + wrong + missed):.3f}")


if __name__ == "__main__":
    main()
