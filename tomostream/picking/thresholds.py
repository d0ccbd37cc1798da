"""Which threshold gives the best N picks?  Found in one pass over all scores, in memory that does not grow with the volume.

The first N picks of the greedy loop don't depend on the threshold, as long as there are N above it.  So any threshold low enough is
right, and a high one is fast.

1. Split each block into cells so small that one ball covers any two of a cell's voxels: a cell holds at most one pick.  Take the
   cells' maxima.
2. A cell at least as high as its neighbours is most likely a pick: keep the highest values of those, and the highest of all cells.
3. The thresholds to try, each lower than the one before: the height of the (1.2 N)-th and the (2 N)-th of the former; of the (8 N)-th
   and the (64 N)-th of the latter (crowded picks, ramps); last -inf, with which every score is a candidate.

The values themselves are kept, not a histogram of them: it is exact for every type, however closely saturated scores lie together.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from scipy import ndimage

_PEAKS = (1.2, 2.0)  # times N: two cells in one ball, or at a block's face, may look like two picks
_CELLS = (8.0, 64.0)  # times N: a ball of the radius holds some 30 cells
_MOST_VALUES = 2**18  # that are kept, unless the peaks are more


@dataclass(frozen=True, slots=True)
class Survey:
    """The highest values of one block or of many: of its cells that look like picks, and of all its cells; descending."""

    peaks: Float64[np.ndarray, " n"]
    cells: Float64[np.ndarray, " m"]

    def merged(self, other: "Survey", count: int) -> "Survey":
        """The same of both, as many values as `count` picks need."""
        return Survey(
            _merged(self.peaks, other.peaks, _rank(_PEAKS[-1], count)), _merged(self.cells, other.cells, _rank(_CELLS[-1], count))
        )


NOTHING = Survey(np.empty(0), np.empty(0))


def survey(scores: Float[np.ndarray, "z y x"], *, radius: float, count: int) -> Survey:
    """Look at the scores of one block; see the module's text.

    Parameters
    ----------
    scores
        float32 or float64; NaN and -inf stand for voxels that can't be picks.
    radius
        In voxels.
    count
        How many picks are wanted.
    """
    cells = _cell_maxima(scores, max(1, int(radius / np.sqrt(3.0)) + 1))
    before = np.zeros((3, 3, 3), dtype=bool)
    before.reshape(-1)[:13] = True
    # of equal neighbours only the first is a peak, so that a plateau does not count many times
    is_peak = (cells >= ndimage.maximum_filter(cells, size=3, mode="nearest")) & (
        cells > ndimage.maximum_filter(cells, footprint=before, mode="constant", cval=-np.inf)
    )
    return Survey(_top(cells[is_peak], _rank(_PEAKS[-1], count)), _top(cells.ravel(), _rank(_CELLS[-1], count)))


def thresholds_to_try(seen: Survey, *, count: int) -> list[float]:
    """Return descending thresholds for `count` picks, most likely the first does; the last is -inf."""
    steps = [(seen.peaks, _rank(factor, count)) for factor in _PEAKS] + [(seen.cells, _rank(factor, count)) for factor in _CELLS]
    tried: list[float] = []
    for values, rank in steps:
        if len(values) >= rank:
            below = float(np.nextafter(values[rank - 1], -np.inf))
            if not tried or below < tried[-1]:
                tried.append(below)
    return [*tried, -np.inf]


def _rank(factor: float, count: int) -> int:
    """How many of the highest values tell a threshold: no more than the memory that `planning` grants to a count bears."""
    return min(math.ceil(factor * count), max(_MOST_VALUES, math.ceil(_PEAKS[-1] * count)))


def _top(values: Float[np.ndarray, " _"], count: int) -> Float64[np.ndarray, " _"]:
    """Return the `count` highest values above -inf, descending."""
    return -np.sort(-values[values > -np.inf].astype(np.float64))[:count]


def _merged(one: Float64[np.ndarray, " _"], other: Float64[np.ndarray, " _"], count: int) -> Float64[np.ndarray, " _"]:
    """Return the `count` highest values of both, descending as they are."""
    if len(one) == count:
        other = other[other > one[-1]]
    if not len(other):
        return one
    both = np.concatenate([one, other])
    np.negative(both, out=both)
    both.sort(kind="stable")  # two ascending runs: their merge takes time in proportion to their length
    return -both[:count]


def _cell_maxima(scores: Float[np.ndarray, "z y x"], edge: int) -> Float[np.ndarray, "a b c"]:
    """Return the highest score of each cell of `edge` voxels, -inf for one that is all NaN; the last of an axis may be shorter."""
    layers = []
    for start in range(0, scores.shape[0], edge):  # a layer's maxima stay in the processor's cache
        layer = np.fmax.reduce(scores[start : start + edge], axis=0)
        for axis in range(2):
            rows = np.moveaxis(layer, axis, 0)
            highest = rows[::edge].copy()
            for offset in range(1, edge):
                part = rows[offset::edge]
                np.fmax(highest[: len(part)], part, out=highest[: len(part)])
            layer = np.moveaxis(highest, 0, axis)
        layers.append(layer)
    cells = np.stack(layers)
    return np.where(np.isnan(cells), cells.dtype.type(-np.inf), cells)
