"""Join network and matched filter: add the network's logits, averaged over a small ball, and a weighted correlation.

    fused = mean of the network's logits over a ball  +  weight c  +  intercept          c: normalised cross-correlation with a radial profile

A network trained on ten clicks learns what is not a particle (membranes, gold, ice), but its scores form plateaus that don't locate the centre.  The
radial profile that separates clicks from other peaks (`discriminant`) locates centres to a fraction of a voxel, but mistakes gold beads for
particles.  Their errors have little in common, so the sum is better than either (docs/measurements.md).

1. Compute the network's logits in the needed box, widened by the radius of the ball, as a stream (`strategies.unet.scorer`).
2. Average them over the ball, inside the volume (`picking.smoothing`, whose result does not depend on the block).
3. Add the weighted correlation, computed by FFT (`correlation`); what tells particles from look-alikes, computed beside it, where the model has it
   (`lookalikes`); and the intercept.  It is chosen so that the training tomograms have the expected
   number of picks with a logit above 0.

Limits: the rounding of the FFT depends on the block, so logits from different block grids agree only to rounding.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from tomostream.geometry import Box, Triple
from tomostream.picking.smoothing import ball_mean
from tomostream.strategies.matched_filter.correlation import CorrelationScorer, Target
from tomostream.strategies.matched_filter.kernels import profile_target
from tomostream.strategies.unet.lookalikes import LookAlikes
from tomostream.strategies.unet.scorer import StreamedNetwork, network_box

PIECE_VOX = 96  # edge of a piece that is correlated at once: large enough to be fast, small enough that transforms take little memory


@dataclass(frozen=True, slots=True)
class MatchedSettings:
    """How a matched filter joins the network; tuples have one value per species."""

    support_vox: tuple[float, ...]  # radius of the ball that is correlated, voxels of the network's level
    floor: float  # lower bound of the local deviation that the correlation divides by, standard deviations of the volume
    weight: tuple[float, ...]  # logits per unit of correlation
    intercept: tuple[float, ...]  # logits
    smooth_vox: float  # radius of the ball over which the network's logits are averaged, voxels


def matched_targets(matched: MatchedSettings, profiles: tuple[np.ndarray, ...]) -> list[Target]:
    """Return the targets of the filter, one per species."""
    return [
        profile_target(profile, support, slope=weight)
        for profile, support, weight in zip(profiles, matched.support_vox, matched.weight, strict=True)
    ]


def fused_targets(matched: MatchedSettings, profiles: tuple[np.ndarray, ...], lookalikes: LookAlikes | None) -> list[list[Target]]:
    """Return, for each species, the target of the filter, and those of its look-alikes."""
    filters = matched_targets(matched, profiles)
    if lookalikes is None:
        return [[one] for one in filters]
    return [[one, *lookalikes.targets(number, matched.support_vox[number])] for number, one in enumerate(filters)]


class AveragedScorer:
    """A `BlockScorer` for the network alone, with its logits averaged over a small ball.

    Parameters
    ----------
    network
        The network on its device.
    smooth_vox
        Radius of the ball, in voxels; below 1 nothing is averaged.
    """

    def __init__(self, network: StreamedNetwork, *, smooth_vox: float) -> None:
        self.species = network.species
        self._network, self._smooth = network, smooth_vox

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """Return the voxels that the averaged logits of `needed` depend on; see `BlockScorer.read_box`."""
        return self.wider_box(needed, shape, 0)

    def wider_box(self, needed: Box, shape: Triple, reach: int) -> Box:
        """Return the read box, widened so that it has at least `reach` voxels around the box that is averaged."""
        return network_box(self._network, self._averaged(needed, shape), shape, max(self._network.influence_radius, reach))

    def _averaged(self, needed: Box, shape: Triple) -> Box:
        return needed.expanded(int(self._smooth)).clipped(Box.whole(shape))

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Return the projected peak, in bytes: the image, and the larger of streaming and averaging with their logits."""
        read = self.read_box(needed, shape)
        wide = self._averaged(needed, shape).size
        streaming = 4 * self.species * wide + int(self._network.cost.block_bytes(*read.shape))
        averaging = 4 * self.species * wide + 8 * needed.size + 4 * self.species * needed.size
        return 4 * read.size + max(streaming, averaging)

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Return the logits of `needed`; see `BlockScorer.logits`."""
        wide = self._averaged(needed, shape)
        logits = self._network.logits(image, wide.relative_to(read.start))
        if self._smooth < 1:
            return logits
        result = np.empty((self.species, *needed.shape), dtype=np.float32)
        for values, raw in zip(result, logits, strict=True):
            values[...] = ball_mean(raw, at=wide, wanted=needed, shape=shape, radius=self._smooth)
        return result


class FusedScorer:
    """A `BlockScorer` for network, matched filter, and what tells look-alikes.

    Parameters
    ----------
    network
        The network on its device.
    matched
        How the two are joined.
    profiles
        Radial profiles of the filter, one per species; see `discriminant.telling_profile`.
    lookalikes
        What tells look-alikes; None: nothing.
    threads
        Number of threads of the Fourier transforms.
    """

    def __init__(
        self,
        network: StreamedNetwork,
        matched: MatchedSettings,
        profiles: tuple[np.ndarray, ...],
        lookalikes: LookAlikes | None = None,
        *,
        threads: int | None,
    ) -> None:
        self.species = network.species
        self._averaged = AveragedScorer(network, smooth_vox=matched.smooth_vox)
        self._lookalikes = lookalikes
        self._filters = [
            CorrelationScorer(targets, floor=matched.floor, threads=threads, piece=PIECE_VOX)
            for targets in fused_targets(matched, profiles, lookalikes)
        ]
        self._reach = math.floor(max(matched.support_vox))
        self._intercept = np.array(matched.intercept, dtype=np.float32).reshape(-1, 1, 1, 1)

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """Return the voxels that the logits of `needed` depend on; see `BlockScorer.read_box`."""
        return self._averaged.wider_box(needed, shape, self._reach)

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Return the projected peak, in bytes: the image, and the larger of network and filter with their logits."""
        image = 4 * self.read_box(needed, shape).size
        filtering = 4 * self.species * needed.size + max(one.block_bytes(needed, shape) for one in self._filters)
        return max(image + filtering, image - 4 * self._averaged.read_box(needed, shape).size + self._averaged.block_bytes(needed, shape))

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Return the logits of `needed`; see `BlockScorer.logits`."""
        result = self._averaged.logits(image, read, needed, shape)
        for number, one in enumerate(self._filters):
            window = one.read_box(needed, shape)
            found = one.logits(image[window.relative_to(read.start).slices], window, needed, shape)
            result[number] += found[0]
            if self._lookalikes is not None and len(found) > 1:
                result[number] += self._lookalikes.term(number, found[1:])
                result[number] *= np.float32(self._lookalikes.scale[number])
        result += self._intercept
        return result
