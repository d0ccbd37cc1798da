"""How does a volume on disk behave in a notebook?  As an array that is read where it is indexed, and as a small picture.

    volume[36]            a slice, read now, as numpy
    volume[10:20, ::2]    steps, negative numbers and ... as numpy has them
    numpy.asarray(volume) all of it

A class that mixes this in has `shape`, `dtype` and `read(box)`.
"""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Any

import numpy as np

from tomostream.geometry import Box, Triple
from tomostream.store.slicing import SlicedByBox

_PICTURE_PIXELS = 256  # edge of a picture, at most
_PICTURE_BYTES = 64 * 10**6  # that are read for one, at most
_CONTRAST = (1.0, 99.0)  # percentiles that are black and white


class VolumeView:
    """Indexing, numpy's protocol, and a picture, for what reads boxes."""

    __slots__ = ()

    shape: Triple
    dtype: np.dtype[Any]

    def read(self, box: Box) -> np.ndarray:
        """Read the voxels of a box."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """Number of axes: z, y, x."""
        return 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        given = index if isinstance(index, tuple) else (index,)
        gaps = [position for position, one in enumerate(given) if one is Ellipsis]
        if len(gaps) > 1:
            raise IndexError("an index can have one ellipsis ('...') only")
        at = gaps[0] if gaps else len(given)
        rest = [i for i in given if i is not Ellipsis]
        if len(rest) > self.ndim:
            raise IndexError(f"a volume has 3 axes (z, y, x), the index has {len(rest)}")
        full = [*rest[:at], *[slice(None)] * (self.ndim - len(rest)), *rest[at:]]
        wanted = tuple(_checked(i, n, axis) for i, n, axis in zip(full, self.shape, "zyx", strict=True))
        ranges = tuple(one if isinstance(one, slice) else slice(one, one + 1) for one in wanted)
        block = SlicedByBox(self.read, self.shape, self.dtype)[ranges]
        return block[tuple(slice(None) if isinstance(one, slice) else 0 for one in wanted)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the voxels lie on disk: an array of them is always a copy")
        voxels = self.read(Box.whole(self.shape))
        return voxels if dtype is None else voxels.astype(dtype, copy=False)

    def _facts(self) -> dict[str, str]:
        """The text beside the picture."""
        raise NotImplementedError

    def __repr__(self) -> str:
        facts = self._facts()
        return f"<{facts.pop('')}: {', '.join(f'{key} {value}' for key, value in facts.items())}>"

    def _repr_html_(self) -> str:
        facts = self._facts()
        title = facts.pop("")
        rows = "".join(f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in facts.items())
        return f"<div><b>{escape(title)}</b><div style='display:flex;gap:1em'>{self._picture()}<table>{rows}</table></div></div>"

    def _picture(self) -> str:
        """The middle slice, as an image of HTML; nothing where it would take too long to read."""
        z = self.shape[0] // 2
        if self.shape[1] * self.shape[2] * np.dtype(self.dtype).itemsize > _PICTURE_BYTES:
            return ""
        step = max(1, -(-max(self.shape[1:]) // _PICTURE_PIXELS))
        plane = np.asarray(self[z])[::step, ::step].astype(np.float32)
        finite = plane[np.isfinite(plane)]
        if not finite.size:
            return ""
        from matplotlib.image import imsave  # noqa: PLC0415  (only where somebody looks)

        low, high = np.percentile(finite, _CONTRAST)
        image = io.BytesIO()
        imsave(image, np.nan_to_num(plane, nan=low), vmin=low, vmax=max(high, np.nextafter(low, np.inf)), cmap="gray", format="png")
        encoded = base64.b64encode(image.getvalue()).decode()
        return f'<img alt="slice z = {z}" title="slice z = {z}" src="data:image/png;base64,{encoded}">'


def _checked(index: Any, size: int, axis: str) -> int | slice:
    if isinstance(index, slice):
        return index
    try:
        number = int(index.__index__())
    except AttributeError:
        raise IndexError(
            f"a volume is indexed by integers and slices, found {type(index).__name__} for {axis}; numpy.asarray reads all of it"
        ) from None
    if not -size <= number < size:
        raise IndexError(f"index {number} is out of bounds for {axis} with {size} voxels")
    return number % size
