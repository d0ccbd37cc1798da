"""How much do ten clicks find with a pretrained backbone, in tomograms that it has not seen?

    python -m bench.pretraining.transfer FOLDER/backbone.safetensors [--tasks NAME,...] [--look]

1. The backbone's batch statistics are taken from each tomogram; its features are computed once and kept in a folder.
2. A linear head is fitted in closed form to the clicks against peaks of any kind and random voxels (`episodes.lda_head`).  The clicks are
   moved to where the head scores best, within a third of the radius, and the head is fitted again.
3. The head's peaks in a tomogram that was not clicked are picked greedily, as many as there are particles, and compared with the truth.

`--look` adds the test tomograms, for a final evaluation, not for choices.  Truth is used for the evaluation only, except for species without
a file of clicks: ten of their particles are clicked at random, off by half a voxel to two.
"""

import argparse
import csv
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import cKDTree

from bench.pretraining.backbone import Backbone
from bench.pretraining.training import load_backbone
from tomostream.learn.recalibration import recalibrated

_CORE, _HALO, _CROP = 96, 24, 48


@dataclass(frozen=True, slots=True)
class Task:
    """Ten clicks in one tomogram, and where to pick; radius and tolerance in voxels of the tomogram."""

    name: str
    folder: str
    species: str
    radius: float
    tolerance: float
    level: int
    clicked: str
    test: tuple[str, ...]
    look: tuple[str, ...]
    clicks: str | None  # file; None: drawn from the truth


def tasks() -> list[Task]:
    """Return all tasks."""
    result = []
    for kind in ("DEF", "VPP"):
        names = [f"{kind}_0{i}" for i in (1, 2, 3, 4)]
        for species, radius, file in (
            ("ribosome", 10.0, "clicks_{}_train_10.csv"),
            ("fas", 10.0, "clicks_fas_{}_train_10.csv"),
            ("ribosome60s", 100 / 13.48, None),
            ("proteasome26s", 100 / 13.48, None),
            ("proteasome20s", 72 / 13.48, None),
            ("hsp104", 65 / 13.48, None),
        ):
            result.append(
                Task(
                    f"{kind}-{species}", "pombe_sim", species, radius, 10.0 if radius == 10 else radius, 1 if radius > 8 else 0,
                    names[0], (names[1],), tuple(names[2:]), file and file.format(names[0]),
                )
            )  # fmt: skip
    for species, radius in (("ribosome70s", 12.0), ("proteasome20s", 7.0), ("apoferritin", 6.0)):
        level = 1 if radius > 8 else 0
        result.append(
            Task(f"temsim-{species}", "temsim", species, radius, radius, level, "T1", ("T2",), ("T3",), f"clicks_{species}_T1_train_10.csv")
        )
    result.append(Task("ferritin", "ferritin_real", "ferritin", 6.0, 3.0, 0, "ferritin", (), ("ferritin",), None))
    return result


def standardised(volume: np.ndarray) -> np.ndarray:
    """Standardise, clip at 3, and standardise again."""
    result = (volume - volume.mean()) / volume.std()
    result = np.clip(result, -3, 3)
    return np.asarray((result - result.mean()) / result.std(), dtype=np.float32)


def read_level(path: Path, level: int) -> np.ndarray:
    """Read a tomogram at a pyramid level."""
    import mrcfile

    volume = mrcfile.read(path).astype(np.float32)
    for _ in range(level):
        z, y, x = (n // 2 * 2 for n in volume.shape)
        volume = volume[:z, :y, :x].reshape(z // 2, 2, y // 2, 2, x // 2, 2).mean((1, 3, 5))
    return standardised(volume)


def adapted(backbone: Backbone, volume: np.ndarray, *, crops: int = 32, seed: int = 0) -> Backbone:
    """Return the backbone with the batch statistics of a tomogram."""
    rng = np.random.default_rng(seed)
    edges = [min(_CROP, n // 4 * 4) for n in volume.shape]

    def batches() -> list[torch.Tensor]:
        some = []
        for _ in range(crops):
            start = [int(rng.integers(0, n - e + 1)) for n, e in zip(volume.shape, edges, strict=True)]
            some.append(volume[tuple(slice(a, a + e) for a, e in zip(start, edges, strict=True))])
        return [torch.from_numpy(np.stack(some[i : i + 4])[:, None]) for i in range(0, crops, 4)]

    return recalibrated(backbone, batches(), device=torch.device("cpu"))


def features_of(backbone: Backbone, volume: np.ndarray) -> np.ndarray:
    """Compute features, float16 (c, z, y, x), in blocks with a halo."""
    c = backbone.body.channels[0]
    result = np.empty((c, *volume.shape), dtype=np.float16)
    padded = np.pad(volume, [(0, -n % 4) for n in volume.shape], mode="edge")
    starts = [range(0, n, _CORE) for n in volume.shape]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for z in starts[0]:
            for y in starts[1]:
                for x in starts[2]:
                    core = [slice(a, min(a + _CORE, n)) for a, n in zip((z, y, x), volume.shape, strict=True)]
                    read = [
                        slice(max(0, s.start - _HALO), min(m, -(-s.stop // 4) * 4 + _HALO)) for s, m in zip(core, padded.shape, strict=True)
                    ]
                    block = torch.from_numpy(np.ascontiguousarray(padded[tuple(read)]))[None, None]
                    inner = tuple(slice(s.start - r.start, s.stop - r.start) for s, r in zip(core, read, strict=True))
                    result[(slice(None), *core)] = backbone(block)[0][(slice(None), *inner)].float().numpy()
    return result


def cached_features(backbone: Backbone, weights: Path, tomogram: Path, level: int, folder: Path) -> np.ndarray:
    """Return features, computed once and kept as a file."""
    key = json.loads(weights.with_suffix(".json").read_text())["sha256"][:12]
    path = folder / f"{key}_{tomogram.stem}_{level}.npy"
    if not path.exists():
        volume = read_level(tomogram, level)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, features_of(adapted(backbone, volume), volume))
    return np.load(path, mmap_mode="r")


def read_points(path: Path, *, tomogram: str, species: str) -> np.ndarray:
    """Read positions, voxels z y x, (n, 3)."""
    with path.open() as file:
        rows = [r for r in csv.DictReader(file) if r["tomogram"] == tomogram and r["species"] == species]
    return np.array([[float(r[f"{a}_voxel"]) for a in "zyx"] for r in rows]).reshape(-1, 3)


def sample(features: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return features (n, c) at voxels (n, 3)."""
    index = np.clip(np.rint(index).astype(int), 0, np.array(features.shape[1:]) - 1)
    return features[:, index[:, 0], index[:, 1], index[:, 2]].T.astype(np.float32)


def linear(features: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return maps (s, z, y, x) of weights (s, c)."""
    result = np.empty((len(weights), *features.shape[1:]), dtype=np.float32)
    for z in range(0, features.shape[1], 16):
        part = features[:, z : z + 16].astype(np.float32)
        result[:, z : z + 16] = np.tensordot(weights, part, axes=1) + bias[:, None, None, None]
    return result


def peaks_of(scores: np.ndarray, *, apart: float, count: int) -> np.ndarray:
    """Return the positions (n, 3) of the highest peaks, no two closer than `apart` voxels, with subvoxel precision."""
    top = ndimage.maximum_filter(scores, size=3, mode="nearest")
    index = np.argwhere(scores == top)
    values = scores[tuple(index.T)]
    order = np.argsort(-values, kind="stable")[: 40 * count + 200]
    index = index[order]
    tree = cKDTree(index)
    alive = np.ones(len(index), dtype=bool)
    chosen: list[int] = []
    for i in range(len(index)):
        if not alive[i]:
            continue
        chosen.append(i)
        if len(chosen) == count:
            break
        alive[tree.query_ball_point(index[i], apart)] = False
    result = index[chosen].astype(float)
    for row, i in enumerate(chosen):
        for axis in range(3):
            a, b = index[i].copy(), index[i].copy()
            a[axis] -= 1
            b[axis] += 1
            if a[axis] < 0 or b[axis] >= scores.shape[axis]:
                continue
            before, here, after = (float(scores[tuple(p)]) for p in (a, index[i], b))
            bend = before - 2 * here + after
            if bend < 0:
                result[row, axis] += np.clip(0.5 * (before - after) / bend, -0.5, 0.5)
    return result


def f1_of(picks: np.ndarray, truth: np.ndarray, tolerance: float) -> float:
    """Return F1 by the paper's rule: any pick within the tolerance finds a particle."""
    if not len(picks) or not len(truth):
        return 0.0
    found = np.isfinite(cKDTree(picks).query(truth, distance_upper_bound=tolerance)[0]).sum()
    wrong = np.isinf(cKDTree(truth).query(picks, distance_upper_bound=tolerance)[0]).sum()
    return float(2 * found / (2 * found + wrong + len(truth) - found))


def off_of(picks: np.ndarray, truth: np.ndarray, tolerance: float) -> float:
    """Return the median distance of hits from their particle, voxels."""
    distance = cKDTree(truth).query(picks, distance_upper_bound=tolerance)[0]
    hits = distance[np.isfinite(distance)]
    return float(np.median(hits)) if len(hits) else float("nan")


def fit_head(
    backbone: Backbone, features: np.ndarray, clicks: np.ndarray, *, radius: float, shrinkage: float | None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Fit weights (1, c) and bias (1,) to clicks (n, 3), in voxels of the level."""
    rng = np.random.default_rng(seed)
    size_weights = backbone.sizes.weight.detach().numpy()[:, :, 0, 0, 0]
    size_bias = backbone.sizes.bias.detach().numpy()
    maps = linear(features, size_weights, size_bias)
    anything = ndimage.gaussian_filter(maps.max(0), 0.7)
    shape = np.array(features.shape[1:])
    crowded = max(100, int(0.5 * shape.prod() / (4 / 3 * np.pi * radius**3)))
    peaks = peaks_of(anything, apart=0.8 * radius, count=min(crowded, 4000))
    voxels = rng.uniform(size=(2000, 3)) * (shape - 1)
    unclicked = torch.from_numpy(np.concatenate([sample(features, peaks), sample(features, voxels)]))
    weight = torch.cat([torch.full((len(peaks),), 0.5 / len(peaks)), torch.full((len(voxels),), 0.5 / len(voxels))])
    reach = max(1, round(0.35 * radius))
    steps = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    steps = steps[(steps**2).sum(1) <= (0.35 * radius) ** 2 + 1e-9]
    if shrinkage is not None:
        backbone.shrinkage.data.fill_(shrinkage)
    at = clicks
    with torch.no_grad():
        for _ in range(3):
            some = torch.from_numpy(sample(features, at))[None]
            weights, bias, _ = lda(backbone, some, unclicked, weight)
            around = np.rint(clicks)[:, None] + steps
            values = sample(features, around.reshape(-1, 3)) @ weights[0].numpy()
            at = around[np.arange(len(clicks)), values.reshape(len(clicks), -1).argmax(1)]
        some = torch.from_numpy(sample(features, at))[None]
        weights, bias, _ = lda(backbone, some, unclicked, weight)
    return weights.numpy(), bias.numpy()


def lda(backbone: Backbone, clicks: torch.Tensor, unclicked: torch.Tensor, weight: torch.Tensor):
    from bench.pretraining.episodes import lda_head

    return lda_head(clicks, torch.ones(clicks.shape[:2]), unclicked, weight, backbone)


def clicks_of(task: Task, root: Path) -> np.ndarray:
    """Return the clicks, voxels of the tomogram."""
    if task.clicks is not None:
        return read_points(root / task.folder / task.clicks, tomogram=task.clicked, species=task.species)
    name = "labels.csv" if task.name == "ferritin" else "truth.csv"
    truth = read_points(root / task.folder / name, tomogram=task.clicked, species=task.species)
    rng = np.random.default_rng(0)
    chosen = truth[rng.choice(len(truth), 20 if task.name == "ferritin" else 10, replace=False)]
    if task.name == "ferritin":
        return chosen
    direction = rng.normal(size=chosen.shape)
    return chosen + direction / np.linalg.norm(direction, axis=1, keepdims=True) * rng.uniform(0.5, 2.0, (len(chosen), 1))


def evaluate(
    task: Task, weights: Path, root: Path, cache: Path, *, look: bool, shrinkages: list[float | None], smooth: list[float]
) -> None:
    """Print F1 for each setting."""
    backbone = load_backbone(weights)
    step = 2**task.level
    files = {p: root / task.folder / f"{p}.mrc" for p in (task.clicked, *task.test, *task.look)}
    trained = cached_features(backbone, weights, files[task.clicked], task.level, cache)
    clicks = clicks_of(task, root)
    radius = task.radius / step
    heads = [fit_head(load_backbone(weights), trained, (clicks + 0.5) / step - 0.5, radius=radius, shrinkage=s) for s in shrinkages]
    for name in task.test + (task.look if look else ()):
        features = cached_features(backbone, weights, files[name], task.level, cache)
        maps = linear(features, np.concatenate([h[0] for h in heads]), np.concatenate([h[1] for h in heads]))
        truth = read_points(
            root / task.folder / ("labels.csv" if task.name == "ferritin" else "truth.csv"), tomogram=name, species=task.species
        )
        for shrinkage, scores in zip(shrinkages, maps, strict=True):
            for sigma in smooth:
                smoothed = ndimage.gaussian_filter(scores, sigma) if sigma else scores
                count = 1000 if task.name == "ferritin" else len(truth)
                told = []
                for apart in (1.0, 1.4):
                    picks = (peaks_of(smoothed, apart=apart * radius, count=count) + 0.5) * step - 0.5
                    if task.name == "ferritin":
                        far = cKDTree(clicks).query(truth)[0] > 0
                        found = np.isfinite(cKDTree(picks).query(truth[far], distance_upper_bound=3.0)[0]).mean()
                        told.append(f"listed within 3 of 1000: {found:.3f}")
                    else:
                        told.append(f"{f1_of(picks, truth, task.tolerance):.3f} (off {off_of(picks, truth, task.tolerance):.1f})")
                print(f"{task.name:22s} {name:9s} shrinkage {shrinkage} smooth {sigma}: apart 1.0 {told[0]}  1.4 {told[1]}", flush=True)


def evaluate_tuned(
    task: Task, weights: Path, root: Path, cache: Path, *, look: bool, steps: int, learning_rate: float, smooth: list[float], seed: int
) -> None:
    """Print the few-shot head's figures after self-training on all tomograms of the task."""
    from bench.pretraining.tuning import DOUBTFUL, SURE, targets, tuned

    step = 2**task.level
    radius = task.radius / step
    names = [task.clicked, *task.test, *(task.look if look else ())]
    clicks = (clicks_of(task, root) + 0.5) / step - 0.5
    features = [cached_features(load_backbone(weights), weights, root / task.folder / f"{n}.mrc", task.level, cache) for n in names]
    head = fit_head(load_backbone(weights), features[0], clicks, radius=radius, shrinkage=-1.0)
    truths = [read_points(root / task.folder / "truth.csv", tomogram=n, species=task.species) for n in names]
    expected = 180 if task.name == "DEF-ribosome" else 160 if task.name == "VPP-ribosome" else len(truths[0])
    volumes = [read_level(root / task.folder / f"{n}.mrc", task.level) for n in names]
    heats = []
    for number, (some, volume) in enumerate(zip(features, volumes, strict=True)):
        scores = ndimage.gaussian_filter(linear(some, *head)[0], 0.7)
        peaks = peaks_of(scores, apart=1.2 * radius, count=round(DOUBTFUL * expected))
        sure = peaks[: round(SURE * expected)]
        if number == 0:
            near = cKDTree(peaks).query(clicks)
            sure = np.concatenate([sure, peaks[near[1][near[0] < 0.5 * radius]]])
        heats.append(targets(volume.shape, sure, peaks[round(SURE * expected) :], radius=radius))
    start = time.monotonic()
    network = tuned(load_backbone(weights), head, volumes, heats, steps=steps, learning_rate=learning_rate, seed=seed)
    print(f"tuned in {time.monotonic() - start:.0f} s", flush=True)
    backbone = load_backbone(weights)
    backbone.body = network.body
    last = network.head.weight.detach().numpy()[:, :, 0, 0, 0], network.head.bias.detach().numpy()
    for name, volume, truth in zip(names, volumes, truths, strict=True):
        scores = linear(features_of(adapted(backbone, volume), volume), *last)[0]
        for sigma in smooth:
            smoothed = ndimage.gaussian_filter(scores, sigma) if sigma else scores
            told = []
            for apart in (1.0, 1.4):
                picks = (peaks_of(smoothed, apart=apart * radius, count=len(truth)) + 0.5) * step - 0.5
                told.append(f"{f1_of(picks, truth, task.tolerance):.3f} (off {off_of(picks, truth, task.tolerance):.1f})")
            print(f"{task.name:22s} {name:9s} tuned {steps} {learning_rate} smooth {sigma}: apart 1.0 {told[0]}  1.4 {told[1]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pretraining.transfer", description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--tasks", default="DEF-ribosome,VPP-ribosome", help="names, or parts of names, separated by commas; all")
    parser.add_argument("--look", action="store_true")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/pretraining_features"))
    parser.add_argument("--shrinkages", default="learnt", help="logarithms, separated by commas; learnt")
    parser.add_argument("--smooth", default="0,0.7")
    parser.add_argument("--tune", type=int, default=0, help="steps of self-training (default 0)")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    given = parser.parse_args()
    root = Path(os.environ["TOMOSTREAM_DATA"])
    wanted = given.tasks.split(",")
    for task in tasks():
        if given.tasks == "all" or task.name in wanted:
            start = time.monotonic()
            shrinkages = [None if s == "learnt" else float(s) for s in given.shrinkages.split(",")]
            evaluate(
                task,
                given.weights,
                root,
                given.cache,
                look=given.look,
                shrinkages=shrinkages,
                smooth=[float(s) for s in given.smooth.split(",")],
            )
            if given.tune:
                evaluate_tuned(
                    task, given.weights, root, given.cache, look=given.look, steps=given.tune, learning_rate=given.learning_rate,
                    smooth=[float(s) for s in given.smooth.split(",")], seed=0,
                )  # fmt: skip
            print(f"{task.name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
