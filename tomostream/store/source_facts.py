"""What a store records of the MRC file that it was converted from."""

from __future__ import annotations

import math
from typing import Any

from tomostream.store.mrc import MrcHeader


def source_facts(header: MrcHeader, size: int, sha256: str | None) -> dict[str, Any]:
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
