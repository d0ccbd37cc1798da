"""Score blocks with what tells particles from their look-alikes: it is added to the logits, everywhere.

    told apart = logit + weight max(-LIMIT, min(LIMIT, log odds))

The log odds are those of `populations`, at every voxel; beyond `LIMIT` a place is as sure as it can be.  They are correlations with radial kernels,
so blocks give what the whole volume gives, to the rounding of the Fourier transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from tomostream.geometry import Box, Triple
from tomostream.inference.device_scores import DeviceScorer
from tomostream.inference.protocol import BlockScorer
from tomostream.strategies.matched_filter.correlation import CorrelationScorer
from tomostream.strategies.matched_filter.device_correlation import DeviceCorrelation
from tomostream.strategies.unet.fusion import PIECE_VOX
from tomostream.strategies.unet.populations import KINDS
from tomostream.strategies.unet.shells import shell_target, shells_of, support_of

LIMIT = 20.0  # of the log odds
_WIDEST = 1000  # voxels; wider than any particle's ball


@dataclass(frozen=True, slots=True)
class LookAlikes:
    """How look-alikes are told from particles; tuples have one value per species."""

    support_vox: tuple[float, ...]  # radius of the ball whose profile tells, voxels of the model's level
    floor: float  # as `MatchedSettings.floor`
    shells: tuple[
        tuple[tuple[float, ...], ...], ...
    ]  # [kind of look-alike][shell]: weights of the profile; none: nothing is told of the species
    offset: tuple[tuple[float, ...], ...]  # [kind of look-alike]: log odds without the profile
    weight: tuple[float, ...]  # logits per log odds

    def __post_init__(self) -> None:
        if not len(self.support_vox) == len(self.shells) == len(self.offset) == len(self.weight):
            counts = [len(own) for own in (self.support_vox, self.shells, self.offset, self.weight)]
            raise ValueError(f"support_vox, shells, offset and weight must have a value for each species, found {counts} values")
        for support, shells, offset in zip(self.support_vox, self.shells, self.offset, strict=True):
            if not 1 <= support <= _WIDEST:
                raise ValueError(f"support_vox must be 1 to {_WIDEST} voxels, found {support}")
            if len(shells) != len(offset) or any(len(own) != shells_of(support) for own in shells):
                raise ValueError(
                    f"each kind of look-alike needs an offset and {shells_of(support)} shells, found {len(offset)} offsets and "
                    f"{[len(own) for own in shells]} shells"
                )

    @classmethod
    def planned(cls, radii_vox: Sequence[float], floor: float) -> LookAlikes:
        """Return settings of the largest size that training may find for particles of these radii."""
        supports = tuple(support_of(radius) for radius in radii_vox)
        shells = tuple(((1.0, *[0.0] * (shells_of(support) - 1)),) * (KINDS - 1) for support in supports)
        return cls(supports, floor, shells, ((0.0,) * (KINDS - 1),) * len(supports), (1.0,) * len(supports))


class ToldApartScorer:
    """A `BlockScorer` that adds to the logits of another one what tells look-alikes.

    Parameters
    ----------
    scorer
        Scores blocks with the network and the filter.
    lookalikes
        What tells them.
    threads
        Number of threads of the Fourier transforms.
    """

    def __init__(self, scorer: BlockScorer, lookalikes: LookAlikes, *, threads: int | None) -> None:
        self.species = scorer.species
        self._scorer = scorer
        self._tellers = [Teller(lookalikes, number, threads=threads) for number in range(self.species) if lookalikes.shells[number]]

    def read_box(self, needed: Box, shape: Triple) -> Box:
        """Return the voxels that the logits of `needed` depend on; see `BlockScorer.read_box`."""
        result = self._scorer.read_box(needed, shape)
        for teller in self._tellers:
            result = result.joined(teller.correlation.read_box(needed, shape))
        return result

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Return the projected peak, in bytes: the larger of the scorer's, and of the image, the logits and one species' correlations."""
        image = 4 * self.read_box(needed, shape).size
        beside = image - 4 * self._scorer.read_box(needed, shape).size
        telling = max(teller.block_bytes(needed, shape) for teller in self._tellers)
        return max(beside + self._scorer.block_bytes(needed, shape), image + 4 * self.species * needed.size + telling)

    def logits(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "s Z Y X"]:
        """Return the logits of `needed`; see `BlockScorer.logits`."""
        own = self._scorer.read_box(needed, shape)
        result = self._scorer.logits(np.ascontiguousarray(image[own.relative_to(read.start).slices]), own, needed, shape)
        for teller in self._tellers:
            window = teller.correlation.read_box(needed, shape)
            result[teller.number] += teller.term(image[window.relative_to(read.start).slices], window, needed, shape)
        return result


class Teller:
    """What is added to the logits of one species, on a processor."""

    def __init__(self, lookalikes: LookAlikes, number: int, *, threads: int | None) -> None:
        self.number = number
        self.targets = [shell_target(own, lookalikes.support_vox[number]) for own in lookalikes.shells[number]]
        self.offset, self.weight = lookalikes.offset[number], lookalikes.weight[number]
        self.correlation = CorrelationScorer(self.targets, floor=lookalikes.floor, threads=threads, piece=PIECE_VOX)

    def block_bytes(self, needed: Box, shape: Triple) -> int:
        """Return the projected peak of `term`, in bytes."""
        return self.correlation.block_bytes(needed, shape) + 4 * needed.size

    def term(self, image: Float32[np.ndarray, "z y x"], read: Box, needed: Box, shape: Triple) -> Float32[np.ndarray, "Z Y X"]:
        """Return what is added to the logits of `needed`; parameters as of `BlockScorer.logits`, with the correlation's `read_box`."""
        against = self.correlation.logits(image, read, needed, shape)
        total: np.ndarray | None = None
        np.negative(against, out=against)
        for values, offset in zip(against, self.offset, strict=True):
            values[...] -= np.float32(offset)
            total = values if total is None else np.logaddexp(total, values, out=total)
        if total is None:
            raise ValueError("nothing is told of this species")
        np.negative(total, out=total)
        np.clip(total, -LIMIT, LIMIT, out=total)
        total *= np.float32(self.weight)
        return total


class DeviceToldApartScorer(ToldApartScorer):
    """The same for a scorer whose logits stay on a GPU."""

    def __init__(self, scorer: DeviceScorer, lookalikes: LookAlikes) -> None:
        super().__init__(scorer, lookalikes, threads=None)
        self.device, self.memory = scorer.device, scorer.memory
        self._on_device = scorer
        self._correlations = [DeviceCorrelation(teller.targets, floor=lookalikes.floor, memory=self.memory) for teller in self._tellers]

    def device_logits(
        self, image: Float32[torch.Tensor, "z y x"], read: Box, needed: Box, shape: Triple
    ) -> Float32[torch.Tensor, "s Z Y X"]:
        """Return the logits of `needed`, on the device; see `inference.device_scores`."""
        own = self._on_device.read_box(needed, shape)
        result = self._on_device.device_logits(image[own.relative_to(read.start).slices].contiguous(), own, needed, shape)
        inside = read.clipped(Box.whole(shape))  # beyond the volume the profiles assume the mean, but the image repeats the last voxels
        window = image[inside.relative_to(read.start).slices]
        for teller, correlation in zip(self._tellers, self._correlations, strict=True):
            against = torch.tensor(teller.offset, dtype=torch.float32, device=image.device).reshape(-1, 1, 1, 1)
            against = against.expand(-1, *needed.shape).contiguous()
            correlation.add_to(against, window, inside, needed)
            odds = torch.logsumexp(against.neg_(), dim=0).neg_().clamp_(-LIMIT, LIMIT)
            result[teller.number].add_(odds, alpha=teller.weight)
        return result


def told_apart(scorer: BlockScorer, lookalikes: LookAlikes, *, threads: int | None) -> BlockScorer:
    """Return a scorer of the same kind that tells look-alikes; the scorer itself if nothing is told of any species."""
    if not any(lookalikes.shells):
        return scorer
    if isinstance(scorer, DeviceScorer):
        return DeviceToldApartScorer(scorer, lookalikes)
    return ToldApartScorer(scorer, lookalikes, threads=threads)
