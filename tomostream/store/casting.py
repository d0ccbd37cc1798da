"""Which type are a source's voxels stored as, and what must be known about the whole file before the first voxel is written?

- `keep`: the source's own type (its byte order becomes this machine's).
- `float32`: exact for all MRC modes.
- `float16`: rounded; refused if a finite voxel would become infinite.
- `int8`: `round(32 (x - mean) / std)`, limited to +-127, with mean and std (ddof 0) of the whole file, so that 4 standard deviations
  fit; `raw = stored * scale + offset` with `scale = std / 32`, `offset = mean`.  Refused if a voxel is not finite.

The last two need to read the whole file once.  It is read in pieces of fixed size, in file order, so that the stored voxels don't
depend on the memory budget.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Num

from tomostream.errors import InputError
from tomostream.moments import Moments
from tomostream.remote.places import Place

PIECE_VOXELS = 2**19  # voxels worked on at once: 4 MB of float64, which stays in the cache
STORED_TYPES = ("keep", "float32", "float16", "int8")
INT8_STEPS = 32.0  # steps of a standard deviation
INT8_LIMIT = 127
FLOAT16_OVERFLOW = 65520.0  # the smallest magnitude that rounds to infinity


@dataclass(frozen=True, slots=True)
class Casting:
    """How a source's voxels become stored voxels: `raw = stored * scale + offset`.

    `scale` is None where the stored values are the raw ones.
    """

    dtype: np.dtype[Any]
    scale: float | None = None
    offset: float | None = None

    def apply(self, block: Num[np.ndarray, "z y x"]) -> Num[np.ndarray, "z y x"]:
        """Return the stored voxels; the block itself where the type is the same, else a new array."""
        if self.scale is None or self.offset is None:
            return block.astype(self.dtype, copy=False)
        out = np.empty(block.shape, self.dtype)
        depth, height, width = block.shape
        rows = max(1, PIECE_VOXELS // max(1, width))
        for z in range(depth):
            for y in range(0, height, rows):
                piece = block[z, y : y + rows].astype(np.float64)
                piece -= self.offset
                piece /= self.scale
                out[z, y : y + rows] = np.clip(np.rint(piece), -INT8_LIMIT, INT8_LIMIT)
        return out


def needs_pass(dtype: str, source: np.dtype[Any]) -> bool:
    """Whether the stored type can be planned only after a pass over the file."""
    return dtype == "int8" or (dtype == "float16" and _largest_of(source) >= FLOAT16_OVERFLOW)


def plan_casting(dtype: str, source: np.dtype[Any], pieces: Iterable[Num[np.ndarray, " n"]], path: Place) -> Casting:
    """Choose the stored type and its factors.

    Parameters
    ----------
    dtype
        One of `STORED_TYPES`.
    source
        The source's type.
    pieces
        All voxels, in pieces that don't depend on the memory budget; only looked at if `needs_pass`.
    path
        Names the source in errors.

    Raises
    ------
    InputError
        If the type is unknown, or can't hold the source's voxels.
    """
    check_stored_type(dtype)
    if dtype == "keep":
        return Casting(source.newbyteorder("="))
    if not needs_pass(dtype, source):
        return Casting(np.dtype(dtype))
    if dtype == "float16":
        largest = max((_largest_finite(piece) for piece in pieces), default=0.0)
        if largest >= FLOAT16_OVERFLOW:
            raise InputError(
                f"{path}: has voxels up to {largest:g} in magnitude, float16 ends at 65504; choose --dtype float32, int8 or keep"
            )
        return Casting(np.dtype(np.float16))
    found = Moments()
    for piece in pieces:
        found = found.merge(Moments.of(piece))
    if found.count < found.total:
        raise InputError(
            f"{path}: {found.total - found.count} of {found.total} voxels are not finite, int8 can't hold them; "
            "choose --dtype float32, float16 or keep"
        )
    # a constant volume has no deviation; any scale stores it as zeros, which read back as its mean
    return Casting(np.dtype(np.int8), (found.std or 1.0) / INT8_STEPS, found.mean)


def check_stored_type(dtype: str) -> None:
    """Refuse a stored type that is not in `STORED_TYPES`.

    Raises
    ------
    InputError
        If it is unknown.
    """
    if dtype not in STORED_TYPES:
        raise InputError(f"--dtype {dtype}: unknown; allowed are {', '.join(STORED_TYPES)}")


def _largest_of(dtype: np.dtype[Any]) -> float:
    return float(np.finfo(dtype).max if dtype.kind == "f" else np.iinfo(dtype).max)


def _largest_finite(piece: np.ndarray) -> float:
    finite = piece[np.isfinite(piece)]
    return max(float(finite.max()), -float(finite.min())) if finite.size else 0.0
