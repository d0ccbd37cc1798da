"""Read and seek in a remote object: concurrent range requests for parts that are announced.

1. `prefetch` takes the parts that will be read next; neighbours are joined to requests of at most `REQUEST_BYTES`, and all are sent together.
2. `readinto` is served from the fetched parts; anything else costs another request.

Limits: the server must support range requests; one that does not is recognised and refused.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable

from tomostream.remote.places import RemotePath

REQUEST_BYTES = 2**23


class RangeReader(io.RawIOBase):
    """An object as a raw file.

    Parameters
    ----------
    remote
        The object.
    size
        Its length in bytes.
    """

    def __init__(self, remote: RemotePath, size: int) -> None:
        super().__init__()
        self._remote, self._size, self._at = remote, size, 0
        self._parts: list[tuple[int, bytes]] = []

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset without fetching."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the offset."""
        return self._at

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]  # any writable buffer of bytes
        """Fill a buffer, as far as one fetched part reaches."""
        stop = min(self._at + len(target), self._size)
        if stop <= self._at:
            return 0
        start, part = self._holding(self._at, stop)
        count = min(stop, start + len(part)) - self._at
        target[:count] = part[self._at - start : self._at - start + count]
        self._at += count
        return count

    def prefetch(self, parts: Iterable[tuple[int, int]]) -> None:
        """Fetch (start, stop) parts, and drop those of the last call."""
        merged: list[tuple[int, int]] = []
        for start, stop in sorted((max(0, a), min(b, self._size)) for a, b in parts):
            if stop <= start:
                continue
            if merged and start <= merged[-1][1] and stop - merged[-1][0] <= REQUEST_BYTES:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        self._parts = []
        if merged:
            self._parts = list(zip((start for start, _ in merged), self._remote.read_ranges(merged), strict=True))

    def _holding(self, start: int, stop: int) -> tuple[int, bytes]:
        for begin, part in self._parts:
            if begin <= start < begin + len(part):
                return begin, part
        return start, self._remote.read_ranges([(start, stop)])[0]
