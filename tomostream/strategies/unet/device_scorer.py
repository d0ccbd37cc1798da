"""Score boxes on a GPU: network, mean over a ball and matched filter, without copying intermediate results to the host.

The formula is that of `fusion.py`; the network runs over the box in tiles (`whole_block.py`).
"""

import math

import numpy as np
import torch
from jaxtyping import Float32

from tomostream.geometry import Box, Triple
from tomostream.learn.device_memory import device_memory, exact_turn
from tomostream.strategies.matched_filter.device_correlation import DeviceCorrelation
from tomostream.strategies.unet.device_ball_mean import device_ball_mean
from tomostream.strategies.unet.fusion import FusedScorer, MatchedSettings, fused_targets
from tomostream.strategies.unet.lookalikes import LIMIT, LookAlikes
from tomostream.strategies.unet.scorer import StreamedNetwork, UNetScorer


class DeviceUNetScorer:
    """Scores boxes with the network alone, on a GPU; see `inference.device_scores`.

    Parameters
    ----------
    network
        The network on a GPU.
    """

    def __init__(self, network: StreamedNetwork) -> None:
        self.species, self.device, self.memory = network.species, network.device, network.memory
        self._network, self._host = network, UNetScorer(network)

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """Return the voxels that the logits of `needed` depend on; see `BlockScorer.read_box`."""
        return self._host.read_box(needed, shape)

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Return the projected peak on the host, in bytes; the bound for a processor, which is higher, serves here too."""
        return self._host.block_bytes(needed, shape)

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Return the logits of `needed`, on the host; see `BlockScorer.logits`."""
        what = f"a block of {image.shape} voxels (z, y, x)"
        with device_memory(self.device, what, "lower --block-size or use --device cpu"), exact_turn(self.device):
            found: np.ndarray = self.device_logits(torch.from_numpy(image).to(self.device), read, needed, shape).cpu().numpy()
        return found

    def device_logits(
        self, image: Float32[torch.Tensor, "z y x"], read: Box, needed: Box, shape: Triple
    ) -> Float32[torch.Tensor, "s Z Y X"]:
        """Return the logits of `needed`, on the device; see `inference.device_scores`."""
        del shape
        return self._network.device_logits(image, needed.relative_to(read.start))


class DeviceFusedScorer(DeviceUNetScorer):
    """Scores boxes with network, matched filter, and what tells look-alikes, on a GPU.

    Parameters
    ----------
    network
        The network on a GPU.
    matched, profiles, lookalikes
        See `FusedScorer`.
    """

    def __init__(
        self, network: StreamedNetwork, matched: MatchedSettings, profiles: tuple[np.ndarray, ...], lookalikes: LookAlikes | None = None
    ) -> None:
        super().__init__(network)
        self._fused = FusedScorer(network, matched, profiles, lookalikes, threads=None)
        self._lookalikes = lookalikes
        self._smooth = matched.smooth_vox
        self._filters = [
            DeviceCorrelation(targets, floor=matched.floor, memory=self.memory) for targets in fused_targets(matched, profiles, lookalikes)
        ]
        self._intercept = matched.intercept

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """Return the voxels that the logits of `needed` depend on; see `BlockScorer.read_box`."""
        return self._fused.read_box(needed, shape)

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Return the projected peak on the host, in bytes; the bound for a processor, which is higher, serves here too."""
        return self._fused.block_bytes(needed, shape)

    def device_logits(
        self, image: Float32[torch.Tensor, "z y x"], read: Box, needed: Box, shape: Triple
    ) -> Float32[torch.Tensor, "s Z Y X"]:
        """Return the logits of `needed`, on the device; see `inference.device_scores`."""
        wide = needed.expanded(math.floor(self._smooth)).clipped(Box.whole(shape))
        logits = self._network.device_logits(image, wide.relative_to(read.start))
        if self._smooth >= 1:
            means = [device_ball_mean(values, at=wide, wanted=needed, shape=shape, radius=self._smooth) for values in logits]
            logits = torch.stack(means)
            del means
        else:
            logits = logits[(slice(None), *needed.relative_to(wide.start).slices)]
        inside = read.clipped(Box.whole(shape))  # beyond the volume, the filter assumes the mean, but the image repeats the last voxels
        window = image[inside.relative_to(read.start).slices]
        for number, one in enumerate(self._filters):
            self._add(number, one, logits[number], window, inside, needed)
        return logits.add_(torch.tensor(self._intercept, dtype=torch.float32, device=self.device).reshape(-1, 1, 1, 1))

    def _add(self, number: int, filters: DeviceCorrelation, logits: torch.Tensor, image: torch.Tensor, read: Box, needed: Box) -> None:
        """Add to the logits of a species what its filter and its look-alikes say."""
        lookalikes = self._lookalikes
        if lookalikes is None or not lookalikes.shells[number]:
            filters.add_to(logits[None], image, read, needed)
            return
        found = torch.zeros((1 + len(lookalikes.shells[number]), *needed.shape), dtype=torch.float32, device=logits.device)
        filters.add_to(found, image, read, needed)
        logits.add_(found[0])
        offset = torch.tensor(lookalikes.offset[number], dtype=torch.float32, device=logits.device).reshape(-1, 1, 1, 1)
        odds = torch.logsumexp(found[1:].add_(offset).neg_(), dim=0).neg_().clamp_(-LIMIT, lookalikes.most[number])
        logits.add_(odds, alpha=lookalikes.weight[number]).mul_(lookalikes.scale[number])
