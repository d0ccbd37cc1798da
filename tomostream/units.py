"""Lengths, byte sizes and boxes as a user writes them: `135A`, `10vox`, `2GB`, `0:64,0:512,100:200`.

A bare number is refused as a length: voxels and angstrom are confused too easily (a factor of 13 here), and a wrong radius gives
plausible, wrong picks.  GB = 10^9 bytes; the binary units (GiB) are accepted too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tomostream.errors import InputError
from tomostream.geometry import Box, Triple, triple

_LENGTH = re.compile(r"^\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(A|Å|angstrom|vox|voxel|voxels)\s*$")
_BYTES = re.compile(r"^\s*([0-9]*\.?[0-9]+)\s*(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)\s*$", re.IGNORECASE)
_BYTE_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def _lead(what: str) -> str:
    """Return how a message begins: with the place, unless the caller names the place itself."""
    return f"{what}: " if what else ""


@dataclass(frozen=True, slots=True)
class Length:
    """A length with its unit, angstrom or voxels (of the tomogram's full resolution)."""

    value: float
    is_voxels: bool

    @classmethod
    def parse(cls, text: str, what: str = "length") -> Length:
        """Read `135A` or `10vox`.

        Raises
        ------
        InputError
            If the unit is missing or unknown, or the value is not positive.
        """
        match = _LENGTH.match(str(text))
        if match is None:
            raise InputError(f"{_lead(what)}'{text}' is not a length; write it with its unit, as 135A (angstrom) or 10vox (voxels)")
        value = float(match[1])
        if not 0 < value < float("inf"):
            raise InputError(f"{_lead(what)}{text} must be above zero and finite")
        return cls(value, match[2].startswith("vox"))

    def in_voxels(self, spacing: float) -> float:
        """The length in voxels of `spacing` angstrom."""
        return self.value if self.is_voxels else self.value / spacing

    def in_angstrom(self, spacing: float) -> float:
        """The length in angstrom, for voxels of `spacing` angstrom."""
        return self.value * spacing if self.is_voxels else self.value

    def __str__(self) -> str:
        return f"{self.value:g}{'vox' if self.is_voxels else 'A'}"


def parse_bytes(text: str | int, what: str = "memory") -> int:
    """Read a byte size such as `2GB` (10^9 bytes) or `512MiB`.

    Raises
    ------
    InputError
        If it is no such size.
    """
    if isinstance(text, int):
        return text
    match = _BYTES.match(text)
    if match is None or float(match[1]) <= 0:
        raise InputError(f"{_lead(what)}'{text}' is not a size; write it as 500MB or 2GB (GB = 10^9 bytes)")
    return int(float(match[1]) * _BYTE_UNITS[match[2].lower()])


def format_bytes(n: float | int) -> str:
    """Write a byte size in the unit that reads best, decimal: `1.5 GB`."""
    for unit in ("B", "KB", "MB", "GB"):
        if n < 999.5:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def parse_shape(text: str | int | list[int] | tuple[int, ...], what: str = "shape") -> Triple:
    """Read `64` or `32,64,64` (z, y, x) as three positive edges in voxels.

    Raises
    ------
    InputError
        If it is not one or three positive integers.
    """
    try:
        parts = [int(p) for p in text.split(",")] if isinstance(text, str) else [text] if isinstance(text, int) else list(text)
    except (ValueError, TypeError):
        parts = []
    if len(parts) not in (1, 3) or not all(isinstance(edge, int) and not isinstance(edge, bool) and edge >= 1 for edge in parts):
        raise InputError(f"{_lead(what)}'{text}' must be one positive integer or three, as 64 or 32,64,64 (z,y,x; voxels)")
    return triple(parts[0] if len(parts) == 1 else parts)


def parse_box(text: str, what: str = "box") -> Box:
    """Read `z0:z1,y0:y1,x0:x1` (half-open, voxels) as a box.

    Raises
    ------
    InputError
        If it is not three non-empty ranges.
    """
    pairs = [part.split(":") for part in text.split(",")]
    try:
        ranges = [(int(a), int(b)) for a, b in pairs]
    except ValueError:
        ranges = []
    if len(ranges) != 3 or any(a < 0 or b <= a for a, b in ranges):
        raise InputError(f"{_lead(what)}'{text}' must be z0:z1,y0:y1,x0:x1 in voxels, each start below its stop, as 0:64,100:300,100:300")
    return Box(triple([a for a, _ in ranges]), triple([b for _, b in ranges]))
