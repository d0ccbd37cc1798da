"""Draw slices with picks and truth as PNG, for the README and docs/measurements.md.

The colours can be told apart by the colour-blind (Okabe and Ito): hits are green, misses orange, false picks blue.  Without truth all picks
are green.  A particle appears in every slice that cuts its ball, as the circle of the cut.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HIT, MISS, FALSE = "#009E73", "#E69F00", "#56B4E9"
DPI = 110

mpl.use("Agg")


@dataclass(frozen=True, slots=True, eq=False)
class SliceView:
    """One slice of a tomogram, with its picks and truth.

    Parameters
    ----------
    name
        Of the tomogram.
    z
        Number of the slice, voxels.
    image
        float32 (y, x), a mean over a few slices.
    scores
        float32 (y, x) probabilities of the slice, or None.
    hits, misses, false_picks
        float64 (n, 3) voxels z y x of the volume; without truth all picks are hits.
    radius
        Of a particle, voxels.
    has_truth
        Whether the truth is known, so that the colours mean something.
    """

    name: str
    z: int
    image: np.ndarray
    scores: np.ndarray | None
    hits: np.ndarray
    misses: np.ndarray
    false_picks: np.ndarray
    radius: float
    has_truth: bool


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # no date or version in the file, so that the same results give the same bytes
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    low, high = np.percentile(image[np.isfinite(image)], (0.5, 99.5)) if np.isfinite(image).any() else (0.0, 1.0)
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _circles(axes: Axes, points: np.ndarray, view: SliceView, colour: str) -> int:
    """Draw the circles in which the slice cuts the balls; return their number."""
    from matplotlib.patches import Circle

    squared = view.radius**2 - (points[:, 0] - view.z) ** 2
    for (_, y, x), r2 in zip(points[squared > 0], squared[squared > 0], strict=True):
        axes.add_patch(Circle((x, y), float(np.sqrt(r2)), fill=False, color=colour, linewidth=1.2))
    return int(np.count_nonzero(squared > 0))


def slice_picture(view: SliceView) -> bytes:
    """Draw a slice three times, plain, as scores, and with the picks; return a PNG."""
    columns = 3 if view.scores is not None else 2
    height, width = view.image.shape
    figure = Figure(figsize=(4.0 * columns, 4.0 * height / width + 0.45), layout="constrained")
    axes = figure.subplots(1, columns)
    _show(axes[0], view.image, f"{view.name}, slice z = {view.z}")
    if view.scores is not None:
        axes[1].imshow(view.scores, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
        axes[1].set_title("score", fontsize=9)
        axes[1].set_axis_off()
    last = axes[-1]
    _show(last, view.image, "")
    counts = [_circles(last, points, view, colour) for points, colour in ((view.hits, HIT), (view.misses, MISS), (view.false_picks, FALSE))]
    title = (
        f"{counts[0]} hits (green), {counts[1]} misses (orange), {counts[2]} false picks (blue)" if view.has_truth else f"{counts[0]} picks"
    )
    last.set_title(title, fontsize=9)
    return _png(figure)
