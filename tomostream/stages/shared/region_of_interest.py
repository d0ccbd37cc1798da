"""A part of the volume: a box, a mask store on the tomogram's grid, or both."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from tomostream.errors import InputError
from tomostream.geometry import Box, Triple
from tomostream.tomogram import Tomogram, open_tomogram


@functools.lru_cache(maxsize=4)
def _mask(path: str) -> Tomogram:
    return open_tomogram(path)


def mask_in(path: str, box: Box) -> np.ndarray:
    """Return where the mask store at `path` is not zero in a box: bool (z, y, x)."""
    wanted: np.ndarray = _mask(path).read(box) != 0
    return wanted


@dataclass(frozen=True, slots=True)
class Restriction:
    """Where work is wanted: inside `box` and where `mask` is not zero; None means everywhere."""

    box: Box | None
    mask: str | None

    def check(self, shape: Triple, name: str) -> None:
        """Refuse a box or mask that does not fit a volume of this shape.

        Raises
        ------
        InputError
            If the box leaves the volume, or the mask has another shape.
        """
        if self.box is not None and not Box.whole(shape).contains(self.box):
            raise InputError(f"--box {self.box} leaves tomogram '{name}', whose shape is z,y,x = {','.join(map(str, shape))} voxels")
        if self.mask is not None and _mask(self.mask).shape != shape:
            found = ",".join(map(str, _mask(self.mask).shape))
            raise InputError(
                f"--mask {self.mask} has shape z,y,x = {found}, tomogram '{name}' {','.join(map(str, shape))}; give a mask of the tomogram's shape"
            )

    def is_empty_in(self, box: Box) -> bool:
        """Whether nothing is wanted in this box (a mask is not read for it)."""
        return self.box is not None and self.box.clipped(box).is_empty

    def wanted(self, box: Box) -> np.ndarray | None:
        """Return where work is wanted in `box`: bool (z, y, x), or None for everywhere."""
        if self.box is None and self.mask is None:
            return None
        inside = np.zeros(box.shape, dtype=bool)
        part = box if self.box is None else self.box.clipped(box)
        inside[part.relative_to(box.start).slices] = True
        if self.mask is not None:
            inside &= mask_in(self.mask, box)
        return inside

    def apply(self, scores: np.ndarray, box: Box, *, missing: float = math.nan) -> None:
        """Make the scores (species, z, y, x) of `box` missing where none are wanted."""
        wanted = self.wanted(box)
        if wanted is not None:
            scores[:, ~wanted] = missing
