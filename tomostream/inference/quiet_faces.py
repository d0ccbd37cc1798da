"""Score blocks with less trust in the noisy lines near a tomogram's faces: logits there are divided, towards the background, by measured gains.

    quiet = background + (logit - background) / gain

A block's logits change by their positions alone, so chunk boundaries stay invisible.  See `face_noise` for the gains.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32

from tomostream.geometry import Box, Triple
from tomostream.inference.device_scores import DeviceScorer
from tomostream.inference.face_noise import ALONG_X, ALONG_Y, FaceNoise, Gains
from tomostream.inference.protocol import BlockScorer


class QuietScorer:
    """A `BlockScorer` that divides the logits of another one near the faces.

    Parameters
    ----------
    scorer
        Scores blocks of the tomogram.
    noise
        The model's settings.
    gains
        The tomogram's, see `face_noise.face_gains`.
    """

    def __init__(self, scorer: BlockScorer, noise: FaceNoise, gains: Gains) -> None:
        self.species = scorer.species
        self._scorer, self._gains = scorer, gains
        self._background = np.array(noise.background, dtype=np.float32).reshape(-1, 1, 1, 1)

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """Return the voxels that the logits of `needed` depend on; see `BlockScorer.read_box`."""
        return self._scorer.read_box(needed, shape)

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Return the projected peak, in bytes; the strips near the faces are small beside a block."""
        return self._scorer.block_bytes(needed, shape)

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Return the logits of `needed`; see `BlockScorer.logits`."""
        result = self._scorer.logits(image, read, needed, shape)
        for inside, gain in strips(self._gains, needed, shape):
            part = result[(slice(None), *inside.slices)]
            part -= self._background
            part /= gain
            part += self._background
        return result


class DeviceQuietScorer(QuietScorer):
    """The same for a scorer whose logits stay on a GPU."""

    def __init__(self, scorer: DeviceScorer, noise: FaceNoise, gains: Gains) -> None:
        super().__init__(scorer, noise, gains)
        self.device, self.memory = scorer.device, scorer.memory
        self._on_device = scorer

    def device_logits(
        self, image: Float32[torch.Tensor, "z y x"], read: Box, needed: Box, shape: Triple
    ) -> Float32[torch.Tensor, "s Z Y X"]:
        """Return the logits of `needed`, on the device; see `inference.device_scores`."""
        result = self._on_device.device_logits(image, read, needed, shape)
        background = torch.from_numpy(self._background).to(result.device)
        for inside, gain in strips(self._gains, needed, shape):
            part = result[(slice(None), *inside.slices)]
            part.sub_(background).div_(torch.from_numpy(gain).to(result.device)).add_(background)
        return result


def quiet(scorer: BlockScorer, noise: FaceNoise, gains: Gains) -> BlockScorer:
    """Return a scorer of the same kind that divides logits near the faces; the scorer itself if no line is noisy."""
    if all((gain == 1).all() for gain in gains.values()):
        return scorer
    return DeviceQuietScorer(scorer, noise, gains) if isinstance(scorer, DeviceScorer) else QuietScorer(scorer, noise, gains)


def strips(gains: Gains, needed: Box, shape: Triple) -> Iterator[tuple[Box, Float32[np.ndarray, "z y x"]]]:
    """Yield the parts of `needed` near the faces, as boxes from its start, and their gains; strips of the two directions may overlap in a corner."""
    z = slice(needed.start[0], needed.stop[0])
    for name, axis in ((ALONG_Y, 2), (ALONG_X, 1)):
        if name not in gains:
            continue
        near, far = gains[name]
        reach = near.shape[1]
        for first, own in ((0, near), (shape[axis] - reach, far[:, ::-1])):
            start, stop = list(needed.start), list(needed.stop)
            start[axis], stop[axis] = max(start[axis], first), min(stop[axis], first + reach)
            if start[axis] >= stop[axis]:
                continue
            part = own[z, start[axis] - first : stop[axis] - first]
            box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2])).relative_to(needed.start)
            yield box, np.ascontiguousarray(np.expand_dims(part, 3 - axis))
