"""Give napari a volume as a list of arrays, finest first; it reads the slice that is shown from the level whose size fits the window."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tomostream.geometry import Box, Triple, triple
from tomostream.grey_pictures import robust_scale
from tomostream.score_map import ScoreMapAttributes
from tomostream.tomogram import Tomogram
from tomostream.volume_view import VolumeView

CONTRAST = 3.0  # standard deviations from the mean to black and to white


class Level(VolumeView):
    """One level of a volume, or a box of it, as a lazy array for napari; checksums are verified when it reads.

    An index of slices alone reads nothing and returns the box as another `Level`, because napari first crops rows and columns and then takes
    the plane.

    Parameters
    ----------
    tomogram
        At its level.
    decode
        Turns stored voxels into scores; None: the voxels as they are.
    box
        The part of the level; None: all of it.
    """

    __slots__ = ("_box", "_decode", "_tomogram", "dtype", "shape")

    def __init__(self, tomogram: Tomogram, decode: Callable[[np.ndarray], np.ndarray] | None = None, box: Box | None = None) -> None:
        self._tomogram, self._decode = tomogram, decode
        self._box = Box.whole(tomogram.shape) if box is None else box
        self.shape: Triple = self._box.shape
        self.dtype: np.dtype[Any] = tomogram.dtype if decode is None else np.dtype(np.float32)

    @property
    def size(self) -> int:
        """Number of voxels; napari asks for it."""
        return math.prod(self.shape)

    def __getitem__(self, index: Any) -> Any:
        given = index if isinstance(index, tuple) else (index,)
        if len(given) > self.ndim or not all(isinstance(one, slice) and one.step in (None, 1) for one in given):
            return super().__getitem__(index)
        wanted = [one.indices(n) for one, n in zip(given + (slice(None),) * (self.ndim - len(given)), self.shape, strict=True)]
        part = Box(triple([start for start, _, _ in wanted]), triple([stop for _, stop, _ in wanted]))
        return Level(self._tomogram, self._decode, part.shifted(self._box.start))

    def read(self, box: Box) -> np.ndarray:
        """Read the voxels of a box, given relative to the start of this one."""
        voxels = self._tomogram.read(box.shifted(self._box.start))
        return voxels if self._decode is None else self._decode(voxels).astype(np.float32)

    def _facts(self) -> dict[str, str]:
        return {"": f"Level {self._tomogram.level} of {self._tomogram.name}", "voxels (z, y, x)": ", ".join(map(str, self.shape))}


def levels_of(tomogram: Tomogram, scores: ScoreMapAttributes | None = None) -> list[Level]:
    """Return the stored levels, finest first."""
    return [Level(tomogram.at_level(level), None if scores is None else scores.decode) for level in range(tomogram.level_count)]


def contrast_of(tomogram: Tomogram) -> tuple[float, float]:
    """Return the values shown as black and white, from the stored statistics or else from the middle plane of the coarsest level."""
    known = tomogram.normalisation
    if known is not None:
        mean, std = known.mean, known.std
    else:
        coarse = Level(tomogram.at_level(tomogram.level_count - 1))
        mean, std = robust_scale(np.asarray(coarse[coarse.shape[0] // 2], dtype=np.float32))
    return mean - CONTRAST * std, mean + CONTRAST * std
