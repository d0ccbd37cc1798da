"""Do the picks of a real tomogram lie on particles, and do they agree with a list of centres that somebody else made?

    python -m bench.accuracy.real PICKS.csv TOMOGRAM.mrc LISTED.csv [--radius 6] [--count 1000] [--clicks CLICKS.csv] [-o PICTURES.png]

1. The share of the listed centres, less the clicked ones, with one of the best picks within a half, three quarters and one radius.
2. Of listed centres with a pick within a radius: how far the two are apart in z, and in y and x.
3. Which of the two is the centre: the mean radial profile around listed centres and around their picks.  The sharper one is better centred.
4. Pictures of 40 picks at random, as x-y and x-z cuts, to be looked at.

A list with errors of its own puts a limit on (1), which (2) and (3) tell from errors of the picks.  No figure here is an accuracy.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mrcfile
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

import tomostream as ts

SHOWN = 40
_SIGMA = 1.0  # voxels, of the smoothing of pictures


def cut_out(volume: np.ndarray, center: np.ndarray, half: int) -> np.ndarray | None:
    """The cube (2 half + 1)^3 around the nearest voxel; None where the volume ends before it does."""
    first = np.rint(center).astype(int) - half
    if (first < 0).any() or (first + 2 * half + 1 > volume.shape).any():
        return None
    return volume[tuple(slice(start, start + 2 * half + 1) for start in first)]


def radial_profile(volume: np.ndarray, centers: np.ndarray, half: int) -> tuple[np.ndarray, int]:
    """Mean of the voxels at the distances 0, 1, 2 .. around centers (n, 3), and how many lie far enough inside."""
    distance = np.sqrt(sum(axis**2 for axis in np.mgrid[-half : half + 1, -half : half + 1, -half : half + 1])).round().astype(int)
    cubes = [cube for cube in (cut_out(volume, center, half) for center in centers) if cube is not None]
    mean = np.mean(cubes, axis=0)
    return np.array([mean[distance == shell].mean() for shell in range(half + 1)]), len(cubes)


def draw(volume: np.ndarray, picks: np.ndarray, radius: float, target: Path) -> None:
    """Cuts through picks drawn at random, z upwards in the x-z ones; a circle of the particle's radius."""
    half = round(2.5 * radius)
    smooth = gaussian_filter(volume.astype(np.float32), _SIGMA)
    cubes = [cube for cube in (cut_out(smooth, pick, half) for pick in np.random.default_rng(0).permutation(picks)) if cube is not None]
    figure = Figure(figsize=(20, 10), layout="constrained")
    axes = figure.subplots(5, 2 * SHOWN // 5).ravel()
    for number, cube in enumerate(cubes[:SHOWN]):
        for name, image, panel in (("x-y", cube[half], axes[2 * number]), ("x-z", cube[:, half], axes[2 * number + 1])):
            panel.imshow(image, cmap="gray", origin="lower")
            panel.add_patch(circle(half, radius))
            panel.set_title(f"{number + 1} {name}", fontsize=8)
            panel.set_axis_off()
    figure.savefig(target, dpi=70, metadata={"Software": None})


def circle(middle: float, radius: float) -> Circle:
    """A circle of the particle's radius."""
    return Circle((middle, middle), radius, fill=False, color="#E69F00", linewidth=1)


def main() -> None:
    """Read the command line; print, and draw."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accuracy.real", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("picks", type=Path)
    parser.add_argument("tomogram", type=Path)
    parser.add_argument("listed", type=Path)
    parser.add_argument("--clicks", type=Path, help="centres that do not count")
    parser.add_argument("--radius", type=float, default=6.0, help="voxels")
    parser.add_argument("--count", type=int, default=1000, help="of the best picks")
    parser.add_argument("-o", "--pictures", type=Path)
    given = parser.parse_args()
    radius = given.radius
    volume = np.asarray(mrcfile.read(given.tomogram))
    table = ts.read_particles(given.picks)
    best = np.argsort(-table.score, kind="stable")[: given.count]
    picks = table.position_zyx[best]
    listed = ts.read_particles(given.listed).position_zyx
    if given.clicks is not None:
        listed = listed[cKDTree(ts.read_particles(given.clicks).position_zyx).query(listed)[0] > 0.5]
    distance, nearest = cKDTree(picks).query(listed)
    shares = ", ".join(f"{share:g} radii {(distance <= share * radius).mean():.3f}" for share in (0.5, 0.75, 1.0))
    print(f"{len(picks)} picks, {len(listed)} listed centres; with a pick within {shares}")
    has_pick = distance <= radius
    apart = (picks[nearest] - listed)[has_pick]
    for name, values in (("z", np.abs(apart[:, 0])), ("y and x", np.hypot(apart[:, 1], apart[:, 2]))):
        print(f"apart in {name}: median {np.median(values):.1f}, nine of ten within {np.percentile(values, 90):.1f} voxels")
    half = round(2 * radius)
    for name, centers in (("listed centres", listed[has_pick]), ("their picks", picks[nearest[has_pick]])):
        profile, count = radial_profile(volume, centers, half)
        print(f"mean around {count} {name}, at 0 to {half} voxels: {' '.join(f'{value:.0f}' for value in profile)}")
    if given.pictures is not None:
        draw(volume, picks, radius, given.pictures)


if __name__ == "__main__":
    main()
