"""What is a picker?  An object that finds the picks of a volume, given scores, a request and resources.

`Source` holds the scores, `PickRequest` everything else that the picks depend on, `Execution` what they don't depend on.  A `Picker` has a name;
installed pickers are found by it (`pickers`).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64

from tomostream.budget import LIBRARIES_BYTES
from tomostream.errors import InputError
from tomostream.geometry import Box, Triple, triple
from tomostream.picking.how_many import HowMany
from tomostream.progress import Progress
from tomostream.score_map import Values

Read = Callable[[Box], np.ndarray]
MapBlocks = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Picks:
    """The picks of one volume, best first: voxel indices (z, y, x), int64 (n, 3), and scores, float64 (n,)."""

    index_zyx: Int64[np.ndarray, "n 3"]
    score: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.index_zyx)

    @classmethod
    def none(cls) -> "Picks":
        """No picks."""
        return cls(np.empty((0, 3), dtype=np.int64), np.empty(0))


@dataclass(frozen=True, slots=True)
class Source:
    """A volume of scores.

    Parameters
    ----------
    read
        Returns the scores of a box, an array of its shape: booleans, integers, or floats of at most 64 bits.
    shape
        The volume's shape (z, y, x).
    values
        What the scores are.
    name
        Of the volume, for messages.
    floor
        Scores at or below it are not known.
    """

    read: Read
    shape: Triple
    values: Values = "unknown"
    name: str = "the array"
    floor: float = -math.inf

    @classmethod
    def of(cls, array: Any, *, values: Values = "unknown") -> "Source":
        """Take an array: numpy, zarr, dask, or whatever numpy makes an array of.

        Raises
        ------
        InputError
            If it is not three-dimensional.
        """
        volume = array if hasattr(array, "shape") else np.asarray(array)
        if len(volume.shape) != 3:
            raise InputError(f"scores must have three axes (z, y, x), found {len(volume.shape)}: shape {tuple(volume.shape)}")
        # computes the part, if the array is lazy
        return cls(lambda box: np.asarray(volume[box.slices]), triple(volume.shape), values)


@dataclass(frozen=True, slots=True, kw_only=True)
class PickRequest:
    """Which picks are wanted.

    Parameters
    ----------
    radius
        Least distance between picks, exclusive, in voxels: at this distance a pick still suppresses.
    how_many
        None: not given; only pickers without `needs_count` accept this.
    smooth
        Radius in voxels of a ball over which the scores are averaged first; below 1 they are not.
    border
        Voxels nearer than this many voxels to the first or last of an axis are no candidates.
    box
        Voxels outside are no candidates.
    mask
        Returns a boolean array of a box's shape; voxels where it is false are no candidates.

    Raises
    ------
    InputError
        If a length is impossible.
    """

    radius: float
    how_many: HowMany | None = None
    smooth: float = 0.0
    border: float = 0.0
    box: Box | None = None
    mask: Read | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius) and self.radius > 0):
            raise InputError(f"radius: {self.radius:g} voxels must be above zero and finite")
        if not (math.isfinite(self.smooth) and self.smooth >= 0):
            raise InputError(f"smooth: {self.smooth:g} voxels must be finite and not negative")

    def within(self, shape: Triple) -> "PickRequest":
        """The same request for a volume of this shape: no two voxels are farther apart than its diagonal, so longer lengths mean that."""
        reach = math.hypot(*shape) + 1
        return replace(self, radius=min(self.radius, reach), smooth=min(self.smooth, reach))


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """The resources for picking; the picks don't depend on them.

    Parameters
    ----------
    memory
        Budget of this process in bytes, libraries included.
    libraries
        What they take of it, bytes.
    block, halo
        Edges of a block's core and its halo, in voxels: at most; smaller ones are taken where the memory is short.
    workers
        Threads; each processes one block.
    map_blocks
        An ordered map that runs a picklable function over blocks, instead of threads (if the source and the mask are picklable too).

    Raises
    ------
    InputError
        If a block has no voxel.
    """

    memory: int
    libraries: int = LIBRARIES_BYTES
    block: Triple | None = None
    halo: int | None = None
    workers: int = 1
    map_blocks: MapBlocks | None = None

    def __post_init__(self) -> None:
        if self.block is not None and min(self.block) < 1:
            raise InputError(f"block: its edges must be at least 1 voxel, found {','.join(map(str, self.block))}")


@runtime_checkable
class Picker(Protocol):
    """A way to find picks; an object of an entry point of the group `tomostream.pickers`.

    One that finds the same picks among the candidates of a score map (`tomostream.stages.prediction.candidates`) says so by an attribute
    `takes_candidates`, True; without it, it is only given whole score maps.
    """

    @property
    def name(self) -> str:
        """The entry point's name."""
        ...

    @property
    def needs_count(self) -> bool:
        """Whether it needs the number of picks."""
        ...

    def pick(self, source: Source, request: PickRequest, execution: Execution, progress: Progress) -> Picks:
        """Find the picks, best first; they depend on the source's scores and the request alone.

        Raises
        ------
        InputError
            If the request can't be met, or the scores are no real numbers.
        BudgetError
            If the memory does not suffice.
        """
        ...
