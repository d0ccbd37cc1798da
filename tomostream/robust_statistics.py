"""Mean and deviation that a few wild voxels don't decide: for normalising, beside the exact statistics.

Two hot voxels of 10^6 among 1.6 million are the mean and the deviation of the volume; then nothing else is left of it.  Here instead:

1. The values are those of an exact histogram (types of 8 and 16 bits), or of a lattice of at most 2^17 voxels, fixed by the volume's shape.
   Neither depends on chunks, their order or workers.
2. Padding is left out: values that occur far more often than both their neighbours.  The commonest is the *fill*; it becomes 0, the mean, as voxels
   that are not finite do.  A value at the end of the range, where the others begin, is where values were cut off, and no padding.
3. Median, and the half distance of the quantiles that lie one deviation from a Gaussian's mean.
4. Mean and deviation of the values within `REACH` such deviations of the median.  For a volume without wild voxels, that is nearly its plain mean and
   deviation.
5. The same values (all but the padding) are standardised and clipped, which gives the second pair.

Limits: where under `LEAST_SHARE` of the values is left, or they don't differ, the plain statistics stand in.  Mean and deviation from the lattice err by
0.4 % of the deviation at most.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Shaped

from tomostream.normalisation import Normalisation

SAMPLE_VOX = 2**17  # of a volume, at most
SAMPLE_BYTES = 8 * SAMPLE_VOX
REACH = 5.0  # deviations from the median within which values make mean and deviation: gold and hot voxels lie beyond
LEAST_SHARE = 0.05  # of the values, that must be left
_TAIL = 0.15865525393145707  # of a Gaussian, below minus one deviation
_ENDS = 1e-3  # quantiles that stand for the ends of the range
_PADDED = 0.005  # least share of a padding value
_SPIKE = 4.0  # times as common as the commoner of its neighbours
_GAP = 1.0  # deviations between a padding value beyond the others, and them


@dataclass(frozen=True, slots=True)
class Lattice:
    """Voxels of a volume at steps along each axis.

    Parameters
    ----------
    shape
        Of the volume.
    """

    shape: tuple[int, ...]

    @property
    def axes(self) -> list[range]:
        """The lattice's places along each axis: the smallest steps, as alike as can be, that take at most `SAMPLE_VOX` voxels."""
        least = max(1, int(float(math.prod(self.shape) / SAMPLE_VOX) ** (1 / len(self.shape))) - 1)
        steps = [least] * len(self.shape)
        while math.prod(len(self._places(axis, step)) for axis, step in enumerate(steps)) > SAMPLE_VOX:
            steps[steps.index(min(steps))] += 1
        return [self._places(axis, step) for axis, step in enumerate(steps)]

    def values(self, block: Shaped[np.ndarray, "..."], start: Sequence[int]) -> Shaped[np.ndarray, " n"]:
        """The lattice's finite voxels in a block whose first voxel is `start`: a copy."""
        # from the block's first voxel to the lattice's first in it
        wanted = tuple(slice(max(p.start - a, (p.start - a) % p.step), None, p.step) for p, a in zip(self.axes, start, strict=True))
        values = block[wanted].ravel()
        finite: np.ndarray = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        return finite.copy() if finite.base is not None else finite

    def _places(self, axis: int, step: int) -> range:
        length = self.shape[axis]
        return range(min(step // 2, (length - 1) // 2), length, step)


def robust_of_values(values: Shaped[np.ndarray, " n"], plain: Normalisation) -> Normalisation:
    """Robust statistics of values of any order; see `robust_of_counts`."""
    found, counts = np.unique(values, return_counts=True)
    return robust_of_counts(found.astype(np.float64), counts, plain)


def robust_of_counts(values: Float64[np.ndarray, " n"], counts: Shaped[np.ndarray, " n"], plain: Normalisation) -> Normalisation:
    """Robust statistics of a volume.

    Parameters
    ----------
    values, counts
        Finite values that occur, in rising order, and how often.
    plain
        The plain statistics: they give the clip, and stand in where there is nothing robust.

    Returns
    -------
    Normalisation
        `finite` and `total` count the values that were used and that there were.
    """
    total = int(counts.sum())
    is_padding = _padding(values, counts)
    kept, weights = values[~is_padding], counts[~is_padding].astype(np.float64)
    found = _centre_and_spread(kept, weights) if weights.sum() >= LEAST_SHARE * max(total, 1) and weights.size else None
    if found is None:
        return replace(plain, robust=None)
    mean, std = found
    clipped = np.clip((kept - mean) / std, -plain.clip_sigma, plain.clip_sigma)
    clipped_mean, clipped_std = _moments(clipped, weights)
    if not clipped_std > 0:
        return replace(plain, robust=None)
    fill = float(values[is_padding][np.argmax(counts[is_padding])]) if is_padding.any() else None
    return Normalisation(mean, std, clipped_mean, clipped_std, int(weights.sum()), total, plain.clip_sigma, fill=fill)


def _centre_and_spread(values: np.ndarray, weights: np.ndarray) -> tuple[float, float] | None:
    """Mean and deviation of the values near the median; None where they don't differ."""
    low, median, high = (_quantile(values, weights, share) for share in (_TAIL, 0.5, 1 - _TAIL))
    spread = (high - low) / 2
    if not spread > 0 or not math.isfinite(spread):
        return None
    is_near = np.abs(values - median) <= REACH * spread
    mean, std = _moments(values[is_near], weights[is_near])
    return (mean, std) if std > 0 and math.isfinite(std) else None


def _padding(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Which values are padding."""
    around = np.pad(counts, 1)
    is_spike = (counts > _PADDED * counts.sum()) & (counts > _SPIKE * np.maximum(around[:-2], around[2:]))
    if not is_spike.any() or is_spike.all():
        return np.zeros(len(values), dtype=bool)
    kept, weights = values[~is_spike], counts[~is_spike].astype(np.float64)
    first, low, high, last = (_quantile(kept, weights, share) for share in (_ENDS, _TAIL, 1 - _TAIL, 1 - _ENDS))
    gap = _GAP * (high - low) / 2
    is_inside = (values > first) & (values < last)
    is_beyond = (values < kept[0] - gap) | (values > kept[-1] + gap) | (values < first - gap) | (values > last + gap)
    result: np.ndarray = is_spike & (is_inside | is_beyond)
    return result


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The value at a share of the sorted, weighted values, linear between the middles of neighbours' weights."""
    ends = np.cumsum(weights)
    return float(np.interp(share * ends[-1], ends - weights / 2, values))


def _moments(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    shift = float(values[np.argmax(weights)])
    deviations = values - shift
    total = weights.sum()
    centre = float((weights * deviations).sum() / total)
    return shift + centre, math.sqrt(float((weights * (deviations - centre) ** 2).sum() / total))
