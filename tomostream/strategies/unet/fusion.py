"""Join network and matched filter in one logit: the network's, averaged over a small ball, plus the weighted correlation.

    fused = mean over a ball of the network's logits  +  weight c  +  intercept          c: normalised cross-correlation with a learnt profile

A network from ten clicks knows what a particle is not (membranes, gold, ice), but its scores are plateaus and do not locate the
centre.  The radial profile that separates clicks from other peaks (`discriminant`) locates centres to a part of a voxel, but takes gold beads
for particles.  Their errors have little in common, so the sum is better than either (docs/accuracy.md).

1. The network's logits of what is needed and the ball's radius more, streamed (`strategies.unet.scorer`).
2. Their mean over the ball (`picking.smoothing`: the same bits in any block), inside the volume.
3. The correlation, by FFT (`correlation`), added with its weight; the intercept puts 0 where the training volumes hold the expected number.

Limits: the FFT's rounding depends on the block (1e-6 of a correlation), so logits of other block grids differ by some 1e-5.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from tomostream.geometry import Box, Triple
from tomostream.picking.smoothing import ball_mean
from tomostream.strategies.matched_filter.correlation import CorrelationScorer
from tomostream.strategies.matched_filter.kernels import profile_target
from tomostream.strategies.unet.scorer import StreamedNetwork, network_box

PIECE_VOX = 96  # edge of what is correlated at a time: fast, and its transforms take 0.1 GB


@dataclass(frozen=True, slots=True)
class MatchedSettings:
    """How a matched filter joins the network; one value per species where there are several."""

    support_vox: tuple[float, ...]  # radius of the ball that is compared, voxels of the network's level
    floor: float  # of the correlation's local variance, standard deviations
    weight: tuple[float, ...]  # logits a unit of correlation
    intercept: tuple[float, ...]  # logits
    smooth_vox: float  # radius of the ball over which the network's logits are averaged, voxels


class AveragedScorer:
    """Scores boxes by the network alone, its logits averaged over a small ball (`inference.protocol`).

    Parameters
    ----------
    network
        Ready to score.
    smooth_vox
        Radius of the ball, voxels.
    """

    def __init__(self, network: StreamedNetwork, *, smooth_vox: float) -> None:
        self.species = network.species
        self._network, self._smooth = network, smooth_vox

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """What the network depends on, for what the ball's mean depends on."""
        return self.wider_box(needed, shape, 0)

    def wider_box(self, needed: Box, shape: Triple, reach: int) -> Box:
        """Return the read box, with at least `reach` voxels on each side."""
        return network_box(self._network, self._averaged(needed, shape), shape, max(self._network.influence_radius, reach))

    def _averaged(self, needed: Box, shape: Triple) -> Box:
        return needed.expanded(int(self._smooth)).clipped(Box.whole(shape))

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Projected peak: the image, then the larger of the streaming network and the mean, with the logits."""
        read = self.read_box(needed, shape)
        wide = self._averaged(needed, shape).size
        streaming = 4 * self.species * wide + int(self._network.cost.block_bytes(*read.shape))
        averaging = 4 * self.species * wide + 8 * needed.size + 4 * self.species * needed.size
        return 4 * read.size + max(streaming, averaging)

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Logits of `needed`; see `inference.protocol`."""
        wide = self._averaged(needed, shape)
        logits = self._network.logits(image, wide.relative_to(read.start))
        if self._smooth < 1:
            return logits
        result = np.empty((self.species, *needed.shape), dtype=np.float32)
        for values, raw in zip(result, logits, strict=True):
            values[...] = ball_mean(raw, at=wide, wanted=needed, shape=shape, radius=self._smooth)
        return result


class FusedScorer:
    """Scores boxes by network and matched filter (`inference.protocol`).

    Parameters
    ----------
    network
        See `AveragedScorer`.
    matched
        How the two are joined.
    profiles
        Profiles of the filter, one per species: see `discriminant.telling_profile`.
    threads
        Of the transforms.
    """

    def __init__(
        self, network: StreamedNetwork, matched: MatchedSettings, profiles: tuple[np.ndarray, ...], *, threads: int | None
    ) -> None:
        targets = [
            profile_target(profile, support, slope=weight)
            for profile, support, weight in zip(profiles, matched.support_vox, matched.weight, strict=True)
        ]
        self.species = network.species
        self._averaged = AveragedScorer(network, smooth_vox=matched.smooth_vox)
        self._filter = CorrelationScorer(targets, floor=matched.floor, threads=threads, piece=PIECE_VOX)
        self._reach = math.floor(max(matched.support_vox))
        self._intercept = np.array(matched.intercept, dtype=np.float32).reshape(-1, 1, 1, 1)

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """What the network's part depends on; the filter's window lies within."""
        return self._averaged.wider_box(needed, shape, self._reach)

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Projected peak: the image and the larger of the two parts, with the logits of both."""
        image = 4 * self.read_box(needed, shape).size
        filtering = 4 * self.species * needed.size + self._filter.block_bytes(needed, shape)
        return max(image + filtering, image - 4 * self._averaged.read_box(needed, shape).size + self._averaged.block_bytes(needed, shape))

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Logits of `needed`; see `inference.protocol`."""
        result = self._averaged.logits(image, read, needed, shape)
        window = self._filter.read_box(needed, shape)
        result += self._filter.logits(image[window.relative_to(read.start).slices], window, needed, shape)
        result += self._intercept
        return result
