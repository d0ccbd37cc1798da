"""Is a source volume whole?  Its header, its length, and every voxel: MRC files have no checksums, so that is all that can be told.

Damage are a header that is wrong, data that end too early or can't be decompressed, and voxels beyond `ABSURD`, which a flipped bit of an
exponent makes.  Voxels that are not finite are counted; statistics and scores leave them out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomostream.errors import TomostreamError
from tomostream.progress import Progress
from tomostream.stages.checking.damage import Damage
from tomostream.store.decompress import peek_header, voxel_pieces
from tomostream.store.preflight import inspect_file

ABSURD = 1e15  # no detector and no reconstruction has such values
_PIECE_VOXELS = 2**20


@dataclass
class _Seen:
    """What the voxels are, so far."""

    total: int = 0
    finite: int = 0
    least: float = float("inf")
    most: float = float("-inf")
    absurd: int = 0
    first_absurd: int = 0

    def add(self, piece: np.ndarray) -> None:
        """Look at the next voxels."""
        finite = piece[np.isfinite(piece)] if piece.dtype.kind == "f" else piece
        if finite.size:
            least, most = float(finite.min()), float(finite.max())
            self.least, self.most = min(self.least, least), max(self.most, most)
            if max(-least, most) > ABSURD:
                where = np.flatnonzero(np.isfinite(piece) & (np.abs(piece.astype(np.float64)) > ABSURD))
                self.first_absurd = self.first_absurd if self.absurd else self.total + int(where[0])
                self.absurd += where.size
        self.total += piece.size
        self.finite += finite.size


def check_volume(path: Path, progress: Progress) -> Iterator[Damage]:
    """Read a whole MRC file, plain or compressed; yield what is damaged, and report what was looked at."""
    text = str(path)
    problems = inspect_file(path).problems
    if problems:
        yield from (Damage(text, "header", problem) for problem in problems)
        return
    seen = _Seen()
    try:
        header = peek_header(path)
        for piece in voxel_pieces(header, _PIECE_VOXELS):
            seen.add(piece)
    except TomostreamError as error:
        yield Damage(text, f"voxel {seen.total} on", " ".join(str(error).split()))
        return
    if seen.absurd:
        at = tuple(map(int, np.unravel_index(seen.first_absurd, header.shape)))
        yield Damage(
            text,
            f"voxel z {at[0]}, y {at[1]}, x {at[2]}",
            f"{seen.absurd} voxels are beyond {ABSURD:g}, as flipped bits make them; copy it again",
        )
    spread = f", from {seen.least:g} to {seen.most:g}" if seen.finite else ""
    progress.say(
        f"{path}: checked its header, its length ({header.file_bytes} bytes) and its voxels: {seen.finite} of {seen.total} are finite{spread}; "
        "MRC files have no checksums, so a change to another plausible value can't be told"
    )
