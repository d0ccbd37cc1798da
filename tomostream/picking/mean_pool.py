"""Where are the particles in a map of blobs?  As in DeepETPicker: binarise, mean-pool until each blob has one peak, take the peaks.

1. Binarise: 1 where the score is above the threshold (0.5), else 0; a missing score (NaN) is 0.
2. Mean-pool several times, stride 1, windows of 5 voxels: as often as makes the windows together as wide as a label, so that a
   particle's blob, whatever its shape and holes, ends as one hill.  Around the volume there are zeros.
3. The peaks: voxels of the volume that no neighbour (of 26) exceeds.  Their score is the pooled mean, in (0, 1]: how much of a particle is there.
4. Of peaks closer than the least distance keep the larger: the greedy loop over the peaks (`blocks.pick_volume`).  A wanted count are
   the best peaks (`pooled`).

Pooling n times with one window is one weighted sum along each axis, with whole-number weights.  Up to 7 times (a radius of 23 voxels) all
sums are whole numbers below 2^53, so exact; beyond, their order depends on the weights alone.  Either way the peaks of a block are those
of the whole volume, bit for bit.

References
----------
Liu et al. 2024, "DeepETPicker", Nature Communications 15, 2090 (mean-pooling non-maximum suppression).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Num
from scipy import ndimage

from tomostream.errors import InputError
from tomostream.geometry import Box, Triple

WINDOW_VOX = 5  # edge of a pooling window, voxels
_BLOB = 0.6  # radius of the blobs, of the particle's: networks of this kind mark the core of it that was labelled


@dataclass(frozen=True, slots=True)
class MeanPool:
    """How scores become peaks.

    Parameters
    ----------
    threshold
        Scores above it are 1, compared in float64.
    rounds
        How often means are taken.
    """

    threshold: float
    rounds: int

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):
            raise InputError(f"threshold: scores are binarised at a finite number, found {self.threshold}")
        if self.rounds < 1:
            raise InputError(f"mean-pooling needs at least one round, found {self.rounds}")

    @classmethod
    def for_radius(cls, radius: float, *, threshold: float) -> "MeanPool":
        """Pool so often that the windows together reach as far to each side as a label (radius of the particle, voxels)."""
        if not (math.isfinite(radius) and radius > 0):
            raise InputError(f"radius: {radius:g} voxels must be above zero and finite")
        return cls(threshold, math.ceil(_BLOB * radius / (WINDOW_VOX // 2)))

    @property
    def halo(self) -> int:
        """Voxels around a voxel that decide whether it is a peak."""
        return self.rounds * (WINDOW_VOX // 2) + 1

    def peaks(self, scores: Num[np.ndarray, "z y x"], *, at: Box, wanted: Box, shape: Triple) -> Float64[np.ndarray, "a b c"]:
        """Pooled scores at the peaks of a box, -inf elsewhere.

        Parameters
        ----------
        scores
            The scores of the box `at`, of any real type.
        at
            Where in the volume they lie: `wanted` expanded by `halo`, clipped to the volume.
        wanted
            The box whose peaks are returned.
        shape
            The volume's shape.
        """
        above = scores > np.float64(self.threshold)
        if not above.any():
            return np.full(wanted.shape, -np.inf)
        around = wanted.expanded(1).clipped(Box.whole(shape))
        pooled = self._pooled(above, at, around)
        highest: np.ndarray = ndimage.maximum_filter(pooled, size=3, mode="constant", cval=-np.inf)
        inside = wanted.relative_to(around.start).slices
        pooled, highest = pooled[inside], highest[inside]
        total = float(WINDOW_VOX) ** (3 * self.rounds)
        return np.where((pooled == highest) & (pooled > 0), pooled / total, -np.inf)

    def _pooled(self, above: np.ndarray, at: Box, wanted: Box) -> np.ndarray:
        """Sums over the windows, for the voxels of `wanted`; axis by axis, each cut to what is wanted as soon as it is summed."""
        weights = np.ones(1)
        for _ in range(self.rounds):
            weights = np.convolve(weights, np.ones(WINDOW_VOX))
        pooled = above
        for axis in range(3):
            # beyond what is given there is nothing (a face of the volume), or what is cut away (open)
            summed = ndimage.correlate1d(pooled, weights, axis=axis, output=np.float64, mode="constant", cval=0.0)
            part = [slice(None)] * 3
            part[axis] = wanted.relative_to(at.start).slices[axis]
            pooled = summed[tuple(part)]
        return pooled
