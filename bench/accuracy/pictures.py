"""Draw the pictures of docs/measurements.md: F1 over the number of clicks, and right, wrong and missed picks in slices of the test tomograms."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

import tomostream as ts
from bench.accuracy.systems import OBJECTIVES_SHOWN, TESTED, Experiment
from bench.accuracy.tables import load, median, pooled
from bench.slice_pictures import SliceView, slice_picture
from tomostream.evaluation.matching import match
from tomostream.geometry import Box

DPI = 110
_COLOURS = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#999999"]  # Okabe and Ito
_THICK = 7  # slices that are averaged
_SIGMA = 2.0  # of the smoothing in y and x, voxels; without it only noise is visible
RADIUS_VOX = 10.0


def draw_curves(results: Path, target: Path) -> None:
    """Draw F1 on the test tomograms over the number of clicks, median and range over the seeds, with the fully labelled network as a line."""
    found = load(results)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axes, domain in zip(figure.subplots(1, 2, sharey=True), ("DEF", "VPP"), strict=True):
        lines: dict[str, dict[int, list[float]]] = defaultdict(dict)
        for (where, species, clicks, system), rows in found.items():
            if where == domain and species == "ribosome":
                lines[system][clicks] = [pooled(row["at_true_count"], domain)["f1"] for row in rows]
        for colour, system in zip(_COLOURS, [name for name in OBJECTIVES_SHOWN if name in lines], strict=False):
            counts = sorted(lines[system])
            values = [lines[system][count] for count in counts]
            axes.plot(counts, [median(some) for some in values], "o-", color=colour, label=system, markersize=4)
            axes.fill_between(counts, [min(some) for some in values], [max(some) for some in values], color=colour, alpha=0.15, linewidth=0)
        if "full" in lines:
            [bound] = [median(some) for some in lines["full"].values()]
            axes.axhline(bound, color="0.5", linestyle="--", linewidth=1, label="all labelled")
        axes.set(title=domain, xlabel="clicks", xscale="log", ylim=(0.4, 1.0))
        axes.set_xticks([10, 30, 100], ["10", "30", "100"])
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("F1, tomograms 03 and 04")
    figure.axes[1].legend(fontsize=8, loc="lower right")
    figure.savefig(target, dpi=DPI, metadata={"Software": None})


def draw_picks(experiment: Experiment, data: Path, work: Path, folder: Path) -> None:
    """Draw one slice of each test tomogram with hits, misses and false picks of a finished experiment."""
    truth = ts.read_particles(data / "truth.csv").of(species=experiment.species)
    for number in TESTED:
        name = f"{experiment.domain}_{number}"
        tomogram = ts.open(work / "tomograms" / f"{name}.ome.zarr")
        table = ts.read_particles(work / "runs" / experiment.name / "picks" / f"{name}.csv")
        picks = table.position_zyx / (tomogram.spacing if table.unit == "angstrom" else 1.0)
        true = truth.of(tomogram=name).position_zyx
        matching = match(picks, true, tolerance=RADIUS_VOX, matching="any")
        z = tomogram.shape[0] // 2
        slab = Box((z - _THICK // 2, 0, 0), (z + _THICK // 2 + 1, *tomogram.shape[1:]))
        view = SliceView(
            name=name,
            z=z,
            image=gaussian_filter(tomogram.read(slab).astype(np.float32).mean(axis=0), _SIGMA),
            scores=None,
            hits=picks[matching.truth_of_pick >= 0],
            misses=true[matching.pick_of_truth < 0],
            false_picks=picks[matching.truth_of_pick < 0],
            radius=RADIUS_VOX,
            has_truth=True,
        )
        (folder / f"accuracy_{name}.png").write_bytes(slice_picture(view))
