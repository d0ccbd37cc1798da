"""How much should the matched filter weigh beside a trained network?

    python -m bench.pretraining.weights --work FOLDER --tasks VPP-fas,DEF-ribosome

Needs the models that `bench.pretraining.kinds --work FOLDER --strategies nnpu` trained.  For each task, and for the discriminant's and the
average's profile of the clicks:

1. Leave out each click, make the profile from the others, and rank the click among the peaks of the correlation in the whole tomogram.
2. Add the correlation with the profile of all clicks to the network's averaged logits, both in standard deviations, with each weight; pick the
   true number; print the F1 in the clicked and in the other tomogram.

Ferritin has no truth: the share of the listed centres, less the clicked ones, within 3 voxels of the best 1000 picks.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from bench.pretraining.transfer import Task, clicks_of, f1_of, peaks_of, read_level, read_points, tasks
from tomostream import defaults
from tomostream.geometry import Box, triple
from tomostream.inference.batch_statistics import adapted
from tomostream.inference.region_scoring import read_extended
from tomostream.strategies.matched_filter.correlation import CorrelationScorer
from tomostream.strategies.matched_filter.discriminant import compared_profiles, telling_profile
from tomostream.strategies.matched_filter.kernels import profile_target
from tomostream.strategies.matched_filter.sampled_correlation import correlations_in
from tomostream.strategies.unet.fusion import PIECE_VOX, AveragedScorer
from tomostream.strategies.unet.model import load_model, unet_sampling
from tomostream.strategies.unet.pretrained import evidence
from tomostream.strategies.unet.scorer import StreamedNetwork

WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 1e6)
_BLOCK = (96, 160, 160)


def reader(volume: np.ndarray):
    """Read boxes of a volume; 0 beyond its faces."""

    def read(box: Box) -> np.ndarray:
        result = np.zeros(box.shape, dtype=np.float32)
        inside = box.clipped(Box.whole(triple(volume.shape)))
        result[inside.relative_to(box.start).slices] = volume[inside.slices]
        return result

    return read


def network_logits(model: Path, volume: np.ndarray, radius: float) -> np.ndarray:
    """The network's logits, averaged as beside the filter, with the volume's own batch statistics; float32 (z, y, x)."""
    loaded = load_model(model)
    shape, read = triple(volume.shape), reader(volume)
    own = adapted(loaded.network, unet_sampling(loaded.network.stride).images(read, shape), device=torch.device("cpu"))
    scorer = AveragedScorer(StreamedNetwork(own, device="cpu", precision="bf16", threads=None), smooth_vox=defaults.MATCHED_SMOOTH * radius)
    result = np.empty(shape, dtype=np.float32)
    for corner in np.ndindex(*(-(-n // edge) for n, edge in zip(shape, _BLOCK, strict=True))):
        start = triple([index * edge for index, edge in zip(corner, _BLOCK, strict=True)])
        box = Box(start, triple([min(a + edge, n) for a, edge, n in zip(start, _BLOCK, shape, strict=True)]))
        needed = scorer.read_box(box, shape)
        result[box.slices] = scorer.logits(read_extended(read, needed, shape), needed, box, shape)[0]
    return result


def correlation(volume: np.ndarray, profile: np.ndarray, support: float) -> np.ndarray:
    """With a radial profile; float32 (z, y, x)."""
    shape = triple(volume.shape)
    scorer = CorrelationScorer([profile_target(profile, support)], floor=defaults.MATCHED_FLOOR, threads=None, piece=PIECE_VOX)
    return correlations_in(Box.whole(shape), scorer, reader(volume), shape)


def left_out_ranks(volume: np.ndarray, profiles: list[np.ndarray], clicks: np.ndarray, radius: float, support: float) -> list[int]:
    """Rank of each click by the profile that was made without it."""
    ranks = []
    for profile, click in zip(profiles, clicks, strict=True):
        scores = correlation(volume, profile, support)
        ranks.append(evidence.rank_of(scores, click, np.sort(evidence.peaks_of(scores, radius=radius)[1]), radius=radius))
    return ranks


def quality(scores: np.ndarray, task: Task, name: str, root: Path) -> float:
    """F1 at the true number; of ferritin the share of the list."""
    step = 2**task.level
    is_listed = task.name == "ferritin"
    centers = read_points(root / task.folder / ("labels.csv" if is_listed else "truth.csv"), tomogram=name, species=task.species)
    picks = (peaks_of(scores, apart=task.radius / step, count=1000 if is_listed else len(centers)) + 0.5) * step - 0.5
    if not is_listed:
        return float(f1_of(picks, centers, task.tolerance))
    others = centers[cKDTree(clicks_of(task, root)).query(centers)[0] > 0]
    return float((cKDTree(picks).query(others)[0] <= task.tolerance).mean())


def show(task: Task, root: Path, work: Path) -> None:
    """Print a task's lines."""
    step = 2**task.level
    radius = task.radius / step
    support = defaults.SUPPORT * radius
    volumes = {name: read_level(root / task.folder / f"{name}.mrc", task.level) for name in (task.clicked, *task.test)}
    clicked = volumes[task.clicked]
    clicks = (clicks_of(task, root) + 0.5) / step - 0.5
    rows, peaks = compared_profiles(
        [triple(clicked.shape)], [reader(clicked)], [clicks], radius=radius, support=support, floor=defaults.NORMALISATION_FLOOR, seed=0
    )
    logits = {name: network_logits(work / f"{task.name}_nnpu" / "project" / "model", volume, radius) for name, volume in volumes.items()}
    for kind in ("discriminant", "average"):

        def profile(some: np.ndarray, kind: str = kind) -> np.ndarray:
            return telling_profile(some, peaks, support=support) if kind == "discriminant" else some.mean(axis=0)

        ranks = left_out_ranks(clicked, [profile(np.delete(rows, i, axis=0)) for i in range(len(rows))], clicks, radius, support)
        print(f"{task.name} {kind}: ranks of left-out clicks {sorted(ranks)}")
        found = {name: correlation(volume, profile(rows), support) for name, volume in volumes.items()}
        for weight in WEIGHTS:
            total = {name: logits[name] / logits[name].std() + np.float32(weight / found[name].std()) * found[name] for name in volumes}
            print(
                f"  weight {weight:g}: " + ", ".join(f"{name} {quality(total[name], task, name, root):.3f}" for name in volumes), flush=True
            )


def main() -> None:
    """Read the command line and show all."""
    parser = argparse.ArgumentParser(prog="python -m bench.pretraining.weights", description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tasks", default="DEF-ribosome,VPP-ribosome,DEF-fas,VPP-fas,temsim-ribosome70s")
    given = parser.parse_args()
    for task in tasks():
        if task.name in given.tasks.split(","):
            show(task, Path(os.environ["TOMOSTREAM_DATA"]), given.work)


if __name__ == "__main__":
    main()
