"""What is a tomogram to all stages: an OME-Zarr image with its voxel spacing, levels and statistics, read box by box.

1. Opening reads metadata only.  Any OME-Zarr image (0.4 or 0.5) with axes z y x will do, local or by URL; axes of length 1 before them
   are squeezed.  What is half-written or no image is refused with what to do.
2. Level k has voxels of 2^k times the spacing.  Stored levels are used as far as they are that (shape ceil(n / 2^k), scale 2^k);
   others are averaged on reading from the coarsest stored one below, by the pyramid's own arithmetic, not rounded.
3. Scores that are stored at the network's level are interpolated on reading (`coarse_scores`): to readers they are on the tomogram's grid.
4. A tomogram can be sent to another process; the store is opened again there when it is first read.

Positions: integers are voxel centres.  Level-0 position p lies at (p + 0.5) / 2^k - 0.5 of level k.

Limits: an HTTP server must answer range requests for sharded stores.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64, Shaped
from zarr import Array

from tomostream.coarse_scores import CoarseScores, coarse_scores
from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Box, Triple, triple
from tomostream.normalisation import ROBUST, Normalisation
from tomostream.remote.places import RemotePath, place
from tomostream.store.attributes import change_attributes
from tomostream.store.naming import is_text, tomogram_name
from tomostream.store.ngff import doubts, known_spacing, read_image_metadata
from tomostream.store.pyramid import level_shape, mean_pooled, sum_dtype
from tomostream.store.records import ROBUST_KEY, Attributes, checked_attributes, put_statistics
from tomostream.store.shard_file import Codec
from tomostream.store.shard_reading import read_sharded
from tomostream.store.slicing import SlicedByBox
from tomostream.store.stored_levels import StoredLevel, stored_levels
from tomostream.store.zarr_opening import normal_path, open_array, open_group, read_array
from tomostream.volume_view import VolumeView

if TYPE_CHECKING:
    import dask.array

_PICTURE_PIXELS = 400  # edge of a level that a notebook shows


class _Handle:
    """The open array of one process.  It is not sent to others, and a forked process opens its own."""

    __slots__ = ("array", "process")

    def __init__(self) -> None:
        self.array: Array[Any] | None = None
        self.process = -1

    def __reduce__(self) -> tuple[type["_Handle"], tuple[()]]:
        return (_Handle, ())


@dataclass(frozen=True, slots=True, repr=False)
class Tomogram(VolumeView):
    """A tomogram at one level; made by `open_tomogram`.

    Parameters
    ----------
    name
        The file's name less its suffixes.
    path
        Local path or URL.
    known_spacing
        Edge of a level-0 voxel, angstrom; None where the store has no unit and the caller said none.
    level
        The level that is read.
    levels
        Stored levels that are means of 2 x 2 x 2, finest first.
    attributes
        The store's own record (attribute `tomostream`); empty for other software's stores.
    warnings
        What had to be assumed on opening.
    """

    name: str
    path: str
    known_spacing: float | None
    level: int
    levels: tuple[StoredLevel, ...]
    attributes: Attributes = field(repr=False)
    warnings: tuple[str, ...] = ()
    zarr_format: int = 3
    coarse: CoarseScores | None = field(default=None, repr=False)  # where level 0 is not stored but interpolated
    _leading: int = field(default=0, repr=False)
    _attached: Normalisation | None = field(default=None, repr=False)
    _handle: _Handle = field(default_factory=_Handle, repr=False, compare=False)

    @property
    def spacing(self) -> float:
        """Edge of a level-0 voxel, angstrom.

        Raises
        ------
        InputError
            If it is not known: the store's axes have no unit.
        """
        if self.known_spacing is None:
            raise InputError(f"{self.path}: {next(iter(self.warnings), 'the voxel spacing is not known; give --voxel-size ANGSTROM')}")
        return self.known_spacing

    @property
    def shape(self) -> Triple:  # type: ignore[override]  # a property where the view declares an attribute
        """Edges of this level, voxels (z y x)."""
        return level_shape(self.levels[0].shape, self.level)

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]  # likewise
        """Type of the raw voxels of this level, in native byte order; a level that is not stored has float32 or float64."""
        return self._source.dtype if self.is_stored else sum_dtype(self._source.dtype)

    @property
    def arrays(self) -> tuple[StoredLevel, ...]:
        """What is in the store: the levels; where level 0 is interpolated, a coarser one and its seams."""
        return self.levels if self.coarse is None else self.coarse.arrays

    @property
    def level_count(self) -> int:
        """Number of stored levels."""
        return len(self.levels)

    @property
    def is_stored(self) -> bool:
        """Whether this level is in the store, not averaged on reading."""
        return self.level < len(self.levels)

    @property
    def is_ours(self) -> bool:
        """Whether the store was finished by tomostream where it can be written, so that its attributes may be changed."""
        return self._is_complete and not self.path.startswith(("http://", "https://"))

    @property
    def level_spacing(self) -> float:
        """Edge of this level's voxel, angstrom."""
        return self.spacing * float(2**self.level)

    @property
    def chunk(self) -> Triple:
        """Edges of the smallest part that is read at once, in this level's voxels."""
        return self._scaled_down(self._source.layout.chunk)

    @property
    def shard(self) -> Triple:
        """Edges of a shard (a chunk, if there are no shards), in this level's voxels."""
        return self._scaled_down(self._source.layout.shard)

    @property
    def zarr(self) -> Array[Any]:
        """The array of this level, with any axes of length 1 before z y x.

        Raises
        ------
        InputError
            If this level is not stored.
        """
        if self.coarse is not None:
            raise InputError(f"{self.path} stores its scores at the network's level, and interpolates them on reading; use `.array`")
        if not self.is_stored:
            raise InputError(
                f"{self.path} stores the levels 0 to {self.level_count - 1}; level {self.level} is averaged on reading, use `.array`"
            )
        return self._open()

    @property
    def array(self) -> "dask.array.Array":
        """The raw voxels as a lazy dask array, one block a shard."""
        import dask.array  # noqa: PLC0415 (it takes longer to import than all of this module)

        meta = np.empty((0, 0, 0), dtype=self.dtype)
        shard = triple([min(s, n) for s, n in zip(self.shard, self.shape, strict=True)])
        lazy: dask.array.Array = dask.array.from_array(
            SlicedByBox(self.read, self.shape, self.dtype), chunks=shard, name=False, fancy=False, meta=meta, inline_array=True
        )
        return lazy

    @property
    def normalisation(self) -> Normalisation | None:
        """Statistics of this level: those attached, else those stored, else None.  Stores of before version 0.2 have no robust ones."""
        if self._attached is not None:
            return self._attached
        plain = (self.attributes.get("normalisation") or {}).get(str(self.level))
        robust = (self.attributes.get(ROBUST_KEY) or {}).get(str(self.level), {}).get(ROBUST)
        return None if plain is None else Normalisation.from_json(plain | ({} if robust is None else {"robust": robust}))

    def _facts(self) -> dict[str, str]:
        z, y, x = self.shape
        spacing = "unknown" if self.known_spacing is None else f"{self.level_spacing:g} A"
        facts = {"": f"Tomogram {self.name}", "voxels (z, y, x)": f"{z}, {y}, {x}", "type": str(self.dtype), "spacing": spacing}
        return facts | {"level": f"{self.level} (stored: {self.level_count})", "path": self.path}

    def _picture(self) -> str:
        """The middle slice of the finest level whose picture needs no more pixels than are shown, if one is stored."""
        small = next((k for k, one in enumerate(self.levels) if max(one.shape[1:]) <= _PICTURE_PIXELS), len(self.levels) - 1)
        return VolumeView._picture(self.at_level(max(small, self.level)))

    def at_level(self, level: int) -> "Tomogram":
        """The same tomogram read at another level; statistics that were attached stay behind.

        Raises
        ------
        InputError
            If `level` is negative, or the volume has shrunk to one voxel before it.
        """
        most = (max(self.levels[0].shape) - 1).bit_length()
        if not 0 <= level <= most:
            raise InputError(f"level {level} of {self.path}: a volume of {self.levels[0].shape} voxels has the levels 0 to {most}")
        return self if level == self.level else replace(self, level=level, _attached=None, _handle=_Handle())

    def with_normalisation(self, normalisation: Normalisation) -> "Tomogram":
        """The same tomogram with these statistics for this level."""
        return replace(self, _attached=normalisation)

    def read(self, box: Box) -> Shaped[np.ndarray, "z y x"]:
        """Read the raw voxels of a box of this level, in native byte order; the array is the caller's own.

        Raises
        ------
        InputError
            If the box leaves the volume, or the store is damaged.
        """
        self._check_box(box)
        if box.is_empty:
            return np.empty(box.shape, dtype=self.dtype)
        return self._read_stored(box) if self.is_stored else self._read_derived(box)

    def read_standardised(self, box: Box, *, out: Float32[np.ndarray, "z y x"] | None = None) -> Float32[np.ndarray, "z y x"]:
        """Read a box as network input (see `Normalisation`).

        Parameters
        ----------
        box
            Voxels of this level.
        out
            Where the voxels are written, of any memory layout.  None: a new array.

        Raises
        ------
        InputError
            As `read`, and if this level has no statistics or no contrast.
        """
        normalisation = self.normalisation
        if normalisation is None:
            raise InputError(f"{self.path} has no statistics of level {self.level}; make them with `tomostream stats {self.path}`")
        self._check_box(box)
        result = np.empty(box.shape, dtype=np.float32) if out is None else out
        codec = self._own_codec
        if codec is not None:
            self._read_own(codec, box, result, lambda target, piece: normalisation.apply(piece, out=target))
            return result
        return normalisation.apply(self.read(box), out=result)

    def to_level_positions(self, positions: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """Bring positions (z y x, level-0 voxels) to this level's voxels."""
        level_positions: np.ndarray = (positions + 0.5) / 2**self.level - 0.5
        return level_positions

    def from_level_positions(self, positions: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """Bring positions (z y x, this level's voxels) to level-0 voxels."""
        level_0_positions: np.ndarray = (positions + 0.5) * 2**self.level - 0.5
        return level_0_positions

    @property
    def _source(self) -> StoredLevel:
        return self.levels[min(self.level, len(self.levels) - 1)]

    @property
    def _is_complete(self) -> bool:
        return self.attributes.get("complete") is True and "fingerprint" in self.attributes

    @property
    def _steps(self) -> int:
        """How often the coarsest stored level is averaged on reading."""
        return max(0, self.level - len(self.levels) + 1)

    def _scaled_down(self, edges: Triple) -> Triple:
        return triple([max(1, edge >> self._steps) for edge in edges])

    def _open(self) -> Array[Any]:
        array = self._handle.array
        if array is None or self._handle.process != os.getpid():
            array = open_array(self.path, self._source.path, self.zarr_format)
            self._handle.array, self._handle.process = array, os.getpid()
        return array

    def _check_box(self, box: Box) -> None:
        if not Box.whole(self.shape).contains(box):
            raise InputError(f"the box {box} leaves level {self.level} of {self.path}, which has {self.shape} voxels (z, y, x)")

    @property
    def _own_codec(self) -> Codec | None:
        """How the chunks of this level are coded, if they lie in shards that tomostream wrote; it reads those itself."""
        return self._source.codec if self.is_stored and self._is_complete else None

    def _read_own(self, codec: Codec, box: Box, out: np.ndarray, write: Callable[[np.ndarray, np.ndarray], object]) -> None:
        source = self._source
        read_sharded(place(self.path).joinpath(source.path), source.layout, source.dtype, codec, box, out=out, write=write)

    def _read_stored(self, box: Box) -> np.ndarray:
        if self.coarse is not None:
            return self.coarse.read(box)
        source, codec = self._source, self._own_codec
        if codec is not None:
            result = np.empty(box.shape, dtype=source.dtype)
            self._read_own(codec, box, result, np.copyto)
            return result
        where = f"{self.path}, level {self.level}, box {box}"
        found = np.asarray(read_array(self._open(), (0,) * self._leading + box.slices, where))
        return found.astype(source.dtype, copy=False)

    def _read_derived(self, box: Box) -> np.ndarray:
        # shard by shard of the source: its 8^steps voxels for one of ours would not fit into memory at once
        source = self.at_level(self.level - self._steps)
        result = np.empty(box.shape, dtype=self.dtype)
        grid = BlockGrid(self.shape, self.shard)
        for index in grid.touching(box):
            part = grid.core(index).clipped(box)
            factor = 2**self._steps
            fine = Box(triple([a * factor for a in part.start]), triple([a * factor for a in part.stop])).clipped(Box.whole(source.shape))
            block = source.read(fine)
            for _ in range(self._steps):
                block = mean_pooled(block)
            result[part.relative_to(box.start).slices] = block
        return result


def open_tomogram(path_or_url: str | os.PathLike[str] | RemotePath, *, level: int = 0, voxel_size: float | None = None) -> Tomogram:
    """Open an OME-Zarr image (0.4 or 0.5) as a tomogram; only metadata are read.

    A store whose axes have no unit has no voxel spacing but the one that the caller says.

    Parameters
    ----------
    path_or_url
        The image's folder, or any URL that fsspec knows (https, s3, file).
    level
        The pyramid level to read; see `Tomogram.at_level`.
    voxel_size
        Angstrom, where the store does not say it.

    Raises
    ------
    InputError
        If it is not a whole image with cubic voxels and axes z y x, can't be read, or says another voxel spacing.
    """
    path = normal_path(path_or_url)
    if not is_text(path):
        raise InputError(f"{path}: the store's name is no UTF-8 text, which results can't be named after; rename it")
    group = open_group(path)
    attributes = dict(group.attrs)
    metadata = read_image_metadata(attributes, path)
    zarr_format = group.metadata.zarr_format
    levels, skipped = stored_levels(path, metadata, zarr_format)
    checked = checked_attributes(attributes, path)
    coarse = coarse_scores(path, levels, checked) if metadata.leading == 0 else None
    if coarse is not None:
        levels, metadata = (coarse.virtual,), metadata.finer(coarse.grid.level)
    tomogram = Tomogram(
        name=tomogram_name(path),
        path=path,
        known_spacing=known_spacing(metadata, voxel_size, path),
        level=0,
        levels=levels,
        attributes=checked,
        warnings=doubts(metadata, voxel_size) + skipped,
        zarr_format=zarr_format,
        coarse=coarse,
        _leading=metadata.leading,
    )
    return tomogram.at_level(level)


def store_normalisation(path: str | os.PathLike[str] | RemotePath, level: int, normalisation: Normalisation) -> None:
    """Write a level's statistics into the attributes of a store that tomostream made.

    Raises
    ------
    InputError
        If the store is another software's, or can't be written.
    """

    def add(attributes: Attributes) -> None:
        put_statistics(attributes, level, normalisation)

    change_attributes(place(path), add)
