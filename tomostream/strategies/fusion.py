"""What do network and matched filter say together?  One logit: the network's, averaged over a small ball, plus the weighted correlation.

    fused = mean over a ball of the network's logits  +  weight c  +  intercept          c: normalised cross-correlation with the clicks' average

A network from ten clicks knows what a particle is not (membranes, gold, ice) but its scores are plateaus, and it says little of where the
centre is; the rotational average of the clicks finds centres to a part of a voxel, and takes gold beads for particles.  Their
errors have little in common, so that the sum is better than either (docs/accuracy.md).

1. The network's logits of what is needed and the ball's radius more, streamed as ever (`inference.scorer`).
2. Their mean over the ball (`picking.smoothing`: the same bits in any block), inside the volume; the intercept puts 0 where the training
   volumes hold the expected number.
3. The correlation, by FFT (`correlation`), with its weight, at a finer level: an average loses by binning, a network does not.

Limits: the FFT's rounding depends on the block (1e-6 of a correlation), so logits of other block grids differ by some 1e-5.
"""

import numpy as np
from jaxtyping import Float32

from tomostream.budget import NetworkCost
from tomostream.geometry import Box, Triple, triple
from tomostream.inference.scorer import Scorer
from tomostream.learn.model_folder import MatchedSettings
from tomostream.picking.smoothing import ball_mean
from tomostream.strategies.correlation import CorrelationScorer
from tomostream.strategies.matched import profile_target

PIECE_VOX = 96  # edge of what is correlated at a time: fastest with a halo of 14, and 0.1 GB


def filter_level(level: int) -> int:
    """The pyramid level that the matched filter of a network of this level reads: the next finer one."""
    return max(0, level - 1)


class FusedScorer:
    """Scores boxes by network and matched filter: a scorer of two levels (`inference.protocol`).

    Parameters
    ----------
    network
        Ready to score.
    cost
        What it takes beside its input and output.
    matched
        How the two are joined.
    profiles
        Of the clicked particles, one a species: see `discriminant.learnt_profile`.
    threads
        Of the transforms.
    """

    def __init__(
        self, network: Scorer, cost: NetworkCost, matched: MatchedSettings, profiles: tuple[np.ndarray, ...], *, threads: int | None
    ) -> None:
        targets = [
            profile_target(profile, support, slope=weight)
            for profile, support, weight in zip(profiles, matched.support_vox, matched.weight, strict=True)
        ]
        self.species = network.species
        self.fine = CorrelationScorer(targets, floor=matched.floor, threads=threads, piece=PIECE_VOX)
        self.fine_level = matched.level
        self._network, self._cost, self._matched = network, cost, matched

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """What the network depends on, for what the ball's mean depends on."""
        whole = Box.whole(shape)
        stride = self._network.stride
        extended = Box.whole(triple([-(-n // stride) * stride for n in shape]))
        return self._averaged(needed, whole).expanded(self._network.influence_radius).aligned(stride).clipped(extended)

    def _averaged(self, needed: Box, whole: Box) -> Box:
        return needed.expanded(int(self._matched.smooth_vox)).clipped(whole)

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Projected peak of the network's part: the image, then the larger of the streaming network and the mean, with the logits."""
        image = 4 * self.read_box(needed, shape).size
        wide = self._averaged(needed, Box.whole(shape)).size
        streaming = 4 * self.species * wide + int(self._cost.block_bytes(*self.read_box(needed, shape).shape))
        averaging = 4 * self.species * wide + 8 * needed.size + 4 * self.species * needed.size
        return image + max(streaming, averaging)

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """The network's part of the logits of `needed`; see `inference.protocol`."""
        wide = self._averaged(needed, Box.whole(shape))
        logits = self._network.logits(image, wide.relative_to(read.start))
        result = np.empty((self.species, *needed.shape), dtype=np.float32)
        for values, raw, intercept in zip(result, logits, self._matched.intercept, strict=True):
            mean = (
                raw
                if self._matched.smooth_vox < 1
                else ball_mean(raw, at=wide, wanted=needed, shape=shape, radius=self._matched.smooth_vox)
            )
            np.add(mean, np.float32(intercept), out=values)
        return result
