"""Draw particles of every species as a person sees them, beside random places: which of them can be clicked at all?

    python -m bench.accuracy.seen --tomogram VPP_01 PICTURE.png
    python -m bench.accuracy.seen --folder temsim --tomogram T1 --species ribosome70s,proteasome20s,apoferritin PICTURE.png

The truth of a simulated data set places the particles.  Each picture is the mean of seven slices, smoothed by two voxels, which is
about what the workbench shows with its slab and smoothing turned up.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import mrcfile
import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from bench.pretraining.transfer import read_points

SPECIES = "ribosome,fas,ribosome60s,proteasome26s,proteasome20s,hsp104"
_COUNT, _HALF, _THICK, _SIGMA, _DPI = 10, 20, 7, 2.0, 100
_NOWHERE = "random places"


def places(tomogram: str, names: list[str], data: Path, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return up to ten positions (n, 3) per species, and ten random ones, all with a whole picture around them."""
    rng = np.random.default_rng(0)
    low = np.array([_THICK // 2, _HALF, _HALF])
    high = np.array(shape) - 1 - low
    chosen = {}
    for species in names:
        points = read_points(data / "truth.csv", tomogram=tomogram, species=species)
        points = points[((points >= low) & (points <= high)).all(axis=1)]
        chosen[species] = points[rng.permutation(len(points))[:_COUNT]]
    chosen[_NOWHERE] = rng.uniform(low, high, size=(_COUNT, 3))
    return chosen


def picture_of(volume: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return what is seen around a place (y, x)."""
    z, y, x = (round(float(one)) for one in place)
    slab = volume[z - _THICK // 2 : z + _THICK // 2 + 1].astype(np.float32).mean(axis=0)
    return np.asarray(gaussian_filter(slab, _SIGMA)[y - _HALF : y + _HALF + 1, x - _HALF : x + _HALF + 1])


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.accuracy.seen", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tomogram", default="VPP_01")
    parser.add_argument("--folder", default="pombe_sim", help="of the data set")
    parser.add_argument("--species", default=SPECIES)
    parser.add_argument("picture", type=Path)
    given = parser.parse_args()
    data = Path(os.environ["TOMOSTREAM_DATA"]) / given.folder
    volume = mrcfile.read(data / f"{given.tomogram}.mrc")
    chosen = places(given.tomogram, given.species.split(","), data, volume.shape)
    images = {name: [picture_of(volume, place) for place in points] for name, points in chosen.items()}
    low, high = np.percentile(np.stack(images[_NOWHERE]), (0.5, 99.5))
    figure = Figure(figsize=(_COUNT, len(images) * 1.06), layout="constrained")
    for axes_of_row, (name, row) in zip(figure.subplots(len(images), _COUNT), images.items(), strict=True):
        for axes in axes_of_row:
            axes.set_axis_off()
        for axes, image in zip(axes_of_row, row, strict=False):
            axes.imshow(image, cmap="gray", vmin=low, vmax=high)
        axes_of_row[0].set_title(name, fontsize=9, loc="left")
    figure.savefig(given.picture, dpi=_DPI, metadata={"Software": None})


if __name__ == "__main__":
    main()
