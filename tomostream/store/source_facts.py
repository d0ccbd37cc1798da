"""What a store records of the MRC file that it was converted from."""

from __future__ import annotations

import math
from typing import TypedDict

from tomostream.store.mrc import MrcHeader


class SourceFacts(TypedDict):
    """What the header of the MRC file says; values that are not finite are None."""

    name: str
    size_bytes: int | None
    sha256: str | None
    mode: int
    dtype: str
    statistics: dict[str, float | None]
    spacing_zyx: tuple[float, float, float] | None
    origin_xyz: list[float | None]
    start_xyz: tuple[int, int, int]
    extended_header_bytes: int
    is_imod: bool
    warnings: tuple[str, ...]


def source_facts(header: MrcHeader, size: int | None, sha256: str | None) -> SourceFacts:
    """What the header says, as values of JSON."""
    return {
        "name": header.path.name,
        "size_bytes": size,
        "sha256": sha256,
        "mode": header.mode,
        "dtype": header.dtype.str,
        "statistics": header.statistics(),
        "spacing_zyx": header.spacing_zyx,
        "origin_xyz": [value if math.isfinite(value) else None for value in header.origin_xyz],
        "start_xyz": header.start_xyz,
        "extended_header_bytes": header.extended_bytes,
        "is_imod": header.is_imod,
        "warnings": header.warnings,
    }
