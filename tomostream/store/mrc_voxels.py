"""How is a box of an MRC file's voxels read without mapping the file?

By seek and `readinto`, directly into the array that is returned.  Nothing is mapped, so pages of the file never count as memory of
the process.  Only boxes of narrow rows need a buffer, of `RUN_BYTES`: a read for each row would cost more than the voxels between them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from tomostream.errors import InputError
from tomostream.geometry import Box
from tomostream.store.mrc import MrcHeader

RUN_BYTES = 1 << 20  # of rows that are read at once, whole, for a box of narrower ones


class MrcReader:
    """Reads boxes of an MRC file's voxels; a context manager.

    Parameters
    ----------
    header
        From `read_header`, of a local file.
    """

    def __init__(self, header: MrcHeader) -> None:
        self._header = header
        if not isinstance(header.path, Path):
            raise TypeError(f"{header.path} is not local; read a copy of it")
        try:
            self._file = header.path.open("rb", buffering=0)  # every read goes directly into its array
        except OSError as error:
            raise InputError(f"{header.path}: can't be read: {error.strerror or error}") from error

    def __enter__(self) -> MrcReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def read(self, box: Box) -> np.ndarray:
        """Return the voxels of `box` (inside the volume) in this machine's byte order.

        Full x rows of one section take one read, full sections one read in all; a narrower box takes one read for `RUN_BYTES` of the rows.

        Raises
        ------
        InputError
            If the file ends before the box does, or the disk fails.
        """
        out: np.ndarray = np.empty(box.shape, self._header.native_dtype)
        if box.is_empty:
            return out
        depth = box.shape[0]
        (z0, y0, x0), (_, ny, nx) = box.start, self._header.shape
        if box.shape[1:] == (ny, nx):
            self._fill(out, z0 * ny * nx)
        elif box.shape[2] == nx:
            for z in range(depth):
                self._fill(out[z], ((z0 + z) * ny + y0) * nx)
        else:
            for z in range(depth):
                self._read_narrow(out[z], ((z0 + z) * ny + y0) * nx + x0)
        return self._native(out)

    def _read_narrow(self, out: np.ndarray, first_voxel: int) -> None:
        """Read the rows (y, x) of one section from the given voxel on, many at a time, with the voxels between them."""
        rows, width = out.shape
        nx = self._header.shape[2]
        together = max(1, RUN_BYTES // (nx * out.itemsize))
        run: np.ndarray = np.empty(min(rows, together) * nx, out.dtype)
        for y in range(0, rows, together):
            count = min(together, rows - y)
            self._fill(run[: (count - 1) * nx + width], first_voxel + y * nx)  # ends with the box: beyond it the file may end
            out[y : y + count] = run[: count * nx].reshape(count, nx)[:, :width]

    def pieces(self, voxels: int) -> Iterator[np.ndarray]:
        """Yield all voxels in file order, `voxels` at a time (the last piece may be shorter)."""
        total = math.prod(self._header.shape)
        for start in range(0, total, voxels):
            piece: np.ndarray = np.empty(min(voxels, total - start), self._header.native_dtype)
            self._fill(piece, start)
            yield self._native(piece)

    def _fill(self, target: np.ndarray, first_voxel: int) -> None:
        """Read a contiguous array's bytes from the given voxel on."""
        view = target.reshape(-1).view(np.uint8).data
        header = self._header
        try:
            self._file.seek(header.data_offset + first_voxel * header.dtype.itemsize, os.SEEK_SET)
            done = 0
            while done < len(view):  # one call reads at most 2 GiB
                n = self._file.readinto(view[done:])
                if not n:
                    raise InputError(f"{header.path}: ended {len(view) - done} bytes early while it was being read; has it changed?")
                done += n
        except OSError as error:
            raise InputError(f"{header.path}: can't be read: {error.strerror or error}") from error

    def _native(self, values: np.ndarray) -> np.ndarray:
        return values if self._header.dtype.isnative else values.byteswap(inplace=True)
