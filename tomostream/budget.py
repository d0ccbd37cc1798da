"""How many bytes will a task hold at its peak?  Arithmetic, checked before any work, and against measured peaks in the tests.

Every projection counts the resident memory of one process: the libraries that it has loaded, and the arrays that live at the same
time.  What the system keeps in its file cache does not count, because nothing here maps files.
"""

from __future__ import annotations

import math
import sys

from tomostream.geometry import Triple

LIBRARIES_BYTES = 150_000_000  # Python with numpy and zarr
TORCH_BYTES = 350_000_000  # torch besides, where a stage loads it
REMOTE_BYTES = 180_000_000  # of a stage that reads or writes URLs: the libraries, and parts of an upload or download: measured

_PLANES_AVERAGED = 16  # a shard's coarser levels are made from this many planes at a time
_CASTING_BYTES = 16_000_000  # float64 scratch of changing the voxels' type


def libraries_bytes() -> int:
    """What libraries take of this process: torch too where an earlier stage has loaded it (in `run`, on the workers of a cluster)."""
    return LIBRARIES_BYTES + (TORCH_BYTES if "torch" in sys.modules else 0)


def remote_bytes(is_remote: bool) -> int:
    """What is taken besides where something is read from, or written to, a URL."""
    return REMOTE_BYTES if is_remote else 0


def conversion_bytes(*, band_voxels: int, shard: Triple, chunk: Triple, source_itemsize: int, stored_itemsize: int, is_cast: bool) -> int:
    """Return the peak of converting an MRC file, in bytes.

    The band as it is read, and of one shard at a time: its copy in the stored type if that is another, its coarser levels (1/7 of the
    voxels, the last one also in the type that means are taken in), the planes that are being averaged, and one chunk that is encoded.

    Parameters
    ----------
    band_voxels
        Voxels that are read at once.
    shard, chunk
        Edges of a level-0 shard and chunk, voxels.
    source_itemsize, stored_itemsize
        Bytes of a voxel in the file and in the store.
    is_cast
        Whether the stored type is another.
    """
    averaged = max(4, stored_itemsize)
    voxels = math.prod(shard)
    copy = voxels * stored_itemsize + _CASTING_BYTES if is_cast else 0
    levels = voxels * stored_itemsize // 7 + voxels * averaged // 8
    planes = min(shard[0], _PLANES_AVERAGED) * shard[1] * shard[2] * averaged
    encoding = 3 * math.prod(chunk) * stored_itemsize
    return LIBRARIES_BYTES + band_voxels * source_itemsize + copy + levels + planes + encoding
