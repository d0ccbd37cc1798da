"""What tells particles from their look-alikes, as it is added to the logits, everywhere.

    told apart = scale (logit + weight max(-LIMIT, min(most, log odds)))

The log odds are those of `populations`, at every voxel; beyond the limits a place is as sure as it can be.  They are correlations with radial kernels
in the ball of the matched filter (`fusion`), so blocks give what the whole volume gives, to the rounding of the Fourier transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from tomostream.strategies.matched_filter.correlation import Target
from tomostream.strategies.unet.populations import KINDS
from tomostream.strategies.unet.shells import shell_target, shells_of

LIMIT = 20.0  # of the log odds, below


@dataclass(frozen=True, slots=True)
class LookAlikes:
    """How look-alikes are told from particles; tuples have one value per species."""

    shells: tuple[tuple[tuple[float, ...], ...], ...]  # [kind of look-alike][shell]: weights of the profile; none: nothing is told
    offset: tuple[tuple[float, ...], ...]  # [kind of look-alike]: log odds without the profile
    most: tuple[float, ...]  # upper limit of the log odds, see `populations.most_odds`
    weight: tuple[float, ...]  # logits per log odds
    scale: tuple[float, ...]  # what the sum is multiplied by; 1 where nothing is told

    def check(self, support_vox: Sequence[float]) -> None:
        """Check that it fits a matched filter with these radii of the ball, one per species, in voxels of the model's level.

        Raises
        ------
        ValueError
            If it does not.
        """
        counts = [len(own) for own in (self.shells, self.offset, self.most, self.weight, self.scale)]
        if counts != [len(support_vox)] * len(counts):
            raise ValueError(
                f"shells, offset, most, weight and scale must have a value for each of the {len(support_vox)} species, found {counts} values"
            )
        for support, shells, offset in zip(support_vox, self.shells, self.offset, strict=True):
            wanted, found = shells_of(support), [len(own) for own in shells]
            if len(shells) != len(offset) or any(count != wanted for count in found):
                raise ValueError(
                    f"each kind of look-alike needs an offset and {wanted} weights of shells, found {len(offset)} offsets and {found} weights"
                )

    @classmethod
    def planned(cls, support_vox: Sequence[float]) -> LookAlikes:
        """Return settings of the largest size that training may find for a matched filter with these radii of the ball."""
        shells = tuple(((1.0, *[0.0] * (shells_of(support) - 1)),) * (KINDS - 1) for support in support_vox)
        ones = (1.0,) * len(shells)
        return cls(shells, ((0.0,) * (KINDS - 1),) * len(shells), ones, ones, ones)

    def targets(self, number: int, support_vox: float) -> list[Target]:
        """Return the targets of species `number`, one for each kind of look-alike; their logits, with the offsets added, are log odds."""
        return [shell_target(own, support_vox) for own in self.shells[number]]

    def term(self, number: int, against: Float32[np.ndarray, "k z y x"]) -> Float32[np.ndarray, "z y x"]:
        """Return what is added to the logits of species `number`, from the logits of its `targets`; these are used up."""
        np.negative(against, out=against)
        for values, offset in zip(against, self.offset[number], strict=True):
            values[...] -= np.float32(offset)
        total: np.ndarray = against[0]
        for values in against[1:]:
            np.logaddexp(total, values, out=total)
        np.negative(total, out=total)
        np.clip(total, -LIMIT, np.float32(self.most[number]), out=total)
        total *= np.float32(self.weight[number])
        return total
