"""An MRC file opened for looking, without conversion: the same attributes as a tomogram of a store, read box by box.

Limits: plain local files (packed and remote ones are converted first); one level; no stored statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomostream.errors import InputError
from tomostream.geometry import Box, Triple, triple
from tomostream.python_words import in_python
from tomostream.store.decompress import compression_of
from tomostream.store.mrc import MrcHeader, read_header
from tomostream.store.mrc_voxels import MrcReader
from tomostream.store.slicing import SlicedByBox
from tomostream.volume_view import VolumeView

if TYPE_CHECKING:
    import dask.array

_BLOCK_BYTES = 32 * 10**6  # of a lazy array's block


@dataclass(frozen=True, slots=True, repr=False)
class MrcVolume(VolumeView):
    """A volume in an MRC file; made by `tomostream.open`.

    Parameters
    ----------
    name
        The file's name less its suffixes.
    path
        The file.
    header
        What the file says about itself.
    known_spacing
        Edge of a voxel, angstrom, as the caller or the header says it; None where neither does.
    """

    name: str
    path: str
    header: MrcHeader
    known_spacing: float | None

    @property
    def shape(self) -> Triple:  # type: ignore[override]  # a property where the view declares an attribute
        """Voxels along z, y, x."""
        return self.header.shape

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]  # likewise
        """Type of the voxels, in native byte order."""
        return self.header.native_dtype

    @property
    def spacing(self) -> float:
        """Edge of a voxel, angstrom.

        Raises
        ------
        InputError
            If it is not known.
        """
        if self.known_spacing is None:
            raise InputError(in_python(f"{self.path}: {self.header.spacing_doubt}"))
        return self.known_spacing

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the file."""
        doubt = self.header.spacing_doubt
        return self.header.warnings if doubt is None else (*self.header.warnings, doubt)

    @property
    def normalisation(self) -> None:
        """Statistics: an MRC file holds none that can be trusted; `tomostream.statistics` measures them."""
        return

    def read(self, box: Box) -> np.ndarray:
        """Read the voxels of a box.

        Raises
        ------
        InputError
            If the box leaves the volume, or the file can't be read.
        """
        if not Box.whole(self.shape).contains(box):
            raise InputError(f"the box {box} leaves {self.path}, which has {self.shape} voxels (z, y, x)")
        with MrcReader(self.header) as reader:
            return reader.read(box)

    @property
    def array(self) -> dask.array.Array:
        """The voxels as a lazy dask array, in blocks of whole slices."""
        import dask.array  # noqa: PLC0415  (it takes longer to import than all of this module)

        rows = max(1, _BLOCK_BYTES // max(1, self.shape[1] * self.shape[2] * self.dtype.itemsize))
        chunks = triple((min(rows, self.shape[0]), *self.shape[1:]))
        sliced = SlicedByBox(self.read, self.shape, self.dtype)
        lazy: dask.array.Array = dask.array.from_array(
            sliced, chunks=chunks, name=False, fancy=False, meta=np.empty((0, 0, 0), self.dtype), inline_array=True
        )
        return lazy

    def _facts(self) -> dict[str, str]:
        z, y, x = self.shape
        spacing = "unknown" if self.known_spacing is None else f"{self.known_spacing:g} A"
        return {
            "": f"MRC volume {self.name}",
            "voxels (z, y, x)": f"{z}, {y}, {x}",
            "type": str(self.dtype),
            "spacing": spacing,
            "path": self.path,
        }


def open_mrc(path: Path, *, voxel_size: float | None = None) -> MrcVolume:
    """Open a plain MRC file; only its header is read.

    Raises
    ------
    InputError
        If it is packed, or no MRC volume of a supported kind.
    """
    if compression_of(path) is not None:
        raise InputError(f"{path} is packed, and can't be read in parts; convert it first: tomostream.convert(path, folder)")
    header = read_header(path)
    return MrcVolume(header.name, str(path), header, voxel_size or header.spacing)
