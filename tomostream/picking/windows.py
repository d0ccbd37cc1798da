"""Which scores of a window does picking see?  They are read, smoothed, and set to -inf where no voxel may be a pick.

1. Read the window (with the smoothing's own halo) and convert it to a float type that holds every value exactly: booleans, half-precision
   floats and integers up to 16 bits to float32, wider integers to float64 (in which scores are compared; beyond 2^53 they round).
2. Smooth it, if asked, over all of the volume's scores, also those where no voxel may be a pick.
3. Where peaks of blobs are wanted, pool; all but the peaks are -inf (`mean_pool`).
4. Put -inf where the mask is false.  A box and a border need none: they are the domain, outside which there are no windows.
"""

from dataclasses import dataclass

import numpy as np

from tomostream.errors import InputError
from tomostream.geometry import Box, Triple, triple
from tomostream.picking.mean_pool import MeanPool
from tomostream.picking.protocol import PickRequest, Read, Source
from tomostream.picking.smoothing import ball_mean


@dataclass(frozen=True, slots=True)
class ScoreWindows:
    """The scores to pick from, window by window.

    Parameters
    ----------
    read
        Returns the scores of a box of the volume, an array of its shape.
    shape
        The volume's shape.
    domain
        The box in which voxels may be picks.
    mask
        Returns a boolean array of a box's shape, true where voxels may be picks; None stands for everywhere.
    smooth
        Radius in voxels of the ball over which scores are averaged first; below 1 they are not.
    pool
        Only the peaks of the pooled scores may be picks; None: every voxel may.
    """

    read: Read
    shape: Triple
    domain: Box
    mask: Read | None
    smooth: float
    pool: MeanPool | None = None

    @classmethod
    def of(cls, source: Source, request: PickRequest, pool: MeanPool | None = None) -> "ScoreWindows":
        """The windows of a volume for a request.

        Raises
        ------
        InputError
            If the request does not fit the volume; see `domain_of`.
        """
        shape = triple(source.shape)
        domain = domain_of(shape, box=request.box, border=request.border)
        return cls(source.read, shape, domain, request.mask, request.smooth, pool)

    @property
    def reach(self) -> float:
        """How far around a voxel scores are averaged or pooled, voxels."""
        return self.smooth + (self.pool.halo if self.pool is not None else 0)

    def scores(self, window: Box) -> np.ndarray:
        """Return the window's scores, float32 or float64; -inf or NaN where no voxel may be a pick.

        Raises
        ------
        InputError
            If what is read has the wrong shape, or is no real number.
        """
        if self.pool is None:
            scores = self._smoothed(window)
        else:
            around = window.expanded(self.pool.halo).clipped(Box.whole(self.shape))
            scores = self.pool.peaks(self._smoothed(around), at=around, wanted=window, shape=self.shape)
        if self.mask is not None:
            allowed = np.asarray(self.mask(window))
            if allowed.shape != window.shape or allowed.dtype != np.bool_:
                raise InputError(
                    f"mask: the box {window} must be boolean of shape {window.shape}, but is {allowed.dtype} of shape {allowed.shape}"
                )
            scores = np.where(allowed, scores, scores.dtype.type(-np.inf))
        return scores

    def _smoothed(self, window: Box) -> np.ndarray:
        """Return the window's scores, smoothed if asked: float32 or float64."""
        around = window.expanded(int(self.smooth)).clipped(Box.whole(self.shape))
        raw = np.asarray(self.read(around))
        if raw.shape != around.shape:
            raise InputError(f"scores: the box {around} must have shape {around.shape}, but has {raw.shape}")
        scores = as_float(raw)
        if self.smooth >= 1:
            return ball_mean(scores, at=around, wanted=window, shape=self.shape, radius=self.smooth)
        return scores


def as_float(values: np.ndarray) -> np.ndarray:
    """Return real values as float32 or float64, whichever holds their type exactly, in the machine's byte order.

    Raises
    ------
    InputError
        If the type is complex, text, or an extended float.
    """
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind not in "bfiu" or size > 8:
        raise InputError(f"scores: their type is {values.dtype}; it must be a real number of at most 64 bits")
    exact = np.float32 if kind == "b" or size <= 2 or (kind == "f" and size == 4) else np.float64
    return values.astype(exact, copy=False)


def domain_of(shape: Triple, *, box: Box | None, border: float) -> Box:
    """Return the box in which voxels may be picks: inside `box`, and at least `border` voxels from the first and last of each axis.

    Raises
    ------
    InputError
        If the box leaves the volume, the border is no length, or nothing is left.
    """
    if not (np.isfinite(border) and border >= 0):
        raise InputError(f"border: {border:g} voxels must be finite and not negative")
    whole = Box.whole(shape)
    if box is not None and not whole.contains(box):
        raise InputError(f"box {box} leaves the volume, whose shape is z,y,x = {','.join(map(str, shape))} voxels")
    margin = int(np.ceil(border))
    inner = Box(triple([margin] * 3), triple([max(margin, n - margin) for n in shape]))
    domain = (box or whole).clipped(inner)
    if domain.is_empty and not whole.is_empty:
        raise InputError(
            f"no voxel is left to pick from: the volume's shape is z,y,x = {','.join(map(str, shape))}, "
            f"the box {box or whole}, the border {border:g} voxels; make the box larger or the border smaller"
        )
    return domain
