"""Can tomostream work with this file, and what should the user know first?

1. A folder, a URL that does not end like an MRC file, or a store's name is inspected as OME-Zarr: its metadata and, if it is local,
   whether all its shards are there.
2. Anything else is inspected as MRC; only the head of a compressed file is decompressed, and its recorded length compared.
3. What makes the file unusable is a problem; anything else that the user should know is a warning.  Nothing is raised.

4. A few voxels, 64 MB at most, are checked for empty slabs and inverted contrast (`voxel_doubts`); not in compressed and remote files.

Limits: not all voxels are read, so damage inside a chunk, or inside compressed data, is not found.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tomostream.errors import InputError, TomostreamError
from tomostream.geometry import Triple
from tomostream.redaction import redacted
from tomostream.remote.copies import identity_of
from tomostream.remote.places import Place, RemotePath, place
from tomostream.store.decompress import compression_of, peek_header
from tomostream.store.mrc import MrcHeader
from tomostream.store.mrc_voxels import MrcReader
from tomostream.store.naming import MRC_ENDINGS, tomogram_name
from tomostream.store.ngff import read_image_metadata
from tomostream.store.voxel_doubts import (
    MOST_BYTES,
    SAMPLED_SECTIONS,
    TELLING_VOXELS,
    contrast_doubts,
    section_doubts,
    shape_doubts,
    voxel_doubts,
)
from tomostream.units import format_bytes

_MOST_LOOKED_AT = 10**5  # missing files that are listed; beyond that they are only counted

if TYPE_CHECKING:
    from tomostream.store.stored_levels import StoredLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The result of an inspection; unknown values are None.

    Parameters
    ----------
    path, name
        As given, and the tomogram's name.
    kind
        How the path was inspected: as MRC or as OME-Zarr.
    shape
        Voxels along z, y, x.
    dtype
        The voxels' type, as numpy names it.
    spacing
        Angstrom.
    statistics
        The header's (min, max, mean, rms), not checked against the voxels.
    size
        Bytes on disk.
    levels
        Of the pyramid; 1 for an MRC file.
    details
        Facts of one kind only: MRC mode, byte order, extended header, IMOD; Zarr format, chunk, shard.
    problems, warnings
        One line each.
    """

    path: str
    name: str
    kind: Literal["mrc", "ome-zarr"]
    shape: Triple | None = None
    dtype: str | None = None
    spacing: float | None = None
    statistics: dict[str, float | None] | None = None
    size: int | None = None
    levels: int | None = None
    details: dict[str, Any] | None = None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "is_usable": self.is_usable}

    def describe(self) -> str:
        """Return lines of text for a reader."""
        lines = [f"{self.path}: {'OME-Zarr' if self.kind == 'ome-zarr' else 'MRC'}, {'usable' if self.is_usable else 'not usable'}"]
        if self.shape is not None:
            z, y, x = self.shape
            size = "" if self.size is None else f", {format_bytes(self.size)} on disk"
            pyramid = f", {self.levels} levels" if self.kind == "ome-zarr" else ""
            lines.append(f"  voxels      z {z}, y {y}, x {x}, {self.dtype}{pyramid}{size}")
            lines.append(f"  spacing     {'unknown' if self.spacing is None else f'{self.spacing:g} A'}")
        if self.statistics is not None:
            found = ", ".join(f"{key} {'-' if value is None else f'{value:g}'}" for key, value in self.statistics.items())
            lines.append(f"  header says {found}")
        if self.details is not None:
            lines.append(f"  details     {', '.join(f'{key} {value}' for key, value in self.details.items())}")
        lines += [f"  problem     {text}" for text in self.problems]
        lines += [f"  warning     {text}" for text in self.warnings]
        return redacted("\n".join(lines))


def inspect_file(path: str | os.PathLike[str], *, assume_mrc: bool = False) -> Inspection:
    """Inspect an MRC file (also .gz, .bz2) or an OME-Zarr store (folder or URL); report what is wrong with it instead of raising."""
    text = str(place(path))
    is_mrc = text.partition("?")[0].lower().endswith(MRC_ENDINGS)
    is_store = not is_mrc if "://" in text else Path(text).is_dir() or text.endswith(".zarr")
    found = Inspection(path=text, name=tomogram_name(text), kind="ome-zarr" if is_store else "mrc")
    try:
        return _store(found) if is_store else _mrc(found, place(text), assume_mrc=assume_mrc)
    except TomostreamError as error:
        return replace(found, problems=(str(error),))


def _mrc(found: Inspection, path: Place, *, assume_mrc: bool = False) -> Inspection:
    header = peek_header(path, assume_mrc=assume_mrc)
    packed = compression_of(path)
    problems: list[str] = []
    warnings = list(header.warnings)
    spacing = None
    try:
        spacing = header.spacing
    except InputError as error:
        problems.append(str(error))
    if header.spacing_doubt is not None:
        warnings.append(header.spacing_doubt)
    if isinstance(path, RemotePath):
        size = identity_of(path)["size"]
        if packed is None and isinstance(size, int) and size < header.file_bytes:
            problems.append(f"{path}: is truncated: it has {size} bytes, its header says {header.file_bytes}; copy it again")
    else:
        size = path.stat().st_size
        if packed == "gzip":
            warnings += _length_doubt(path, header)
    if header.spacing_zyx is not None and not problems and packed is None and isinstance(path, Path):
        warnings += _look(header)
    warnings += shape_doubts(header.shape)
    details = {
        "mode": header.mode,
        "byte_order": "big" if header.dtype.str.startswith(">") else "little",
        "extended_header_bytes": header.extended_bytes,
        "is_imod": header.is_imod,
        "compression": packed or "none",
    }
    return replace(
        found,
        shape=header.shape,
        dtype=header.native_dtype.name,
        spacing=spacing,
        statistics=header.statistics(),
        size=size if isinstance(size, int) else None,
        levels=1,
        details=details,
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def _look(header: MrcHeader) -> list[str]:
    """Return the doubts that a few voxels of a plain local file raise."""
    section = math.prod(header.shape[1:]) * header.dtype.itemsize
    with MrcReader(header) as reader:
        found = section_doubts(reader.read, header.shape)
        return found + (contrast_doubts(reader.read, header.shape) if SAMPLED_SECTIONS * section <= MOST_BYTES else [])


def _look_at_level(path: str, levels: Sequence[StoredLevel], zarr_format: int, kind: object) -> list[str]:
    """Return the doubts that the last of these levels raises, if it is small; score maps and masks are not checked."""
    level = levels[-1]
    if kind is not None or math.prod(level.shape) * level.dtype.itemsize > MOST_BYTES:
        return []
    from tomostream.store.zarr_opening import open_array, read_array  # noqa: PLC0415  (as above)

    array = open_array(path, level.path, zarr_format)
    index = (0,) * (array.ndim - 3) + tuple(slice(0, n) for n in level.shape)
    try:
        return voxel_doubts(np.asarray(read_array(array, index, f"{path}, level {level.path}")))
    except InputError as error:
        return [str(error)]


def _length_doubt(path: Path, header: MrcHeader) -> list[str]:
    """Compare the length modulo 2^32 at the end of a gzip file; a file of several parts gives only that of the last part."""
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        (length,) = struct.unpack("<I", file.read(4))
    if length == header.file_bytes % 2**32:
        return []
    return [f"the gzip data end with the length {length}, the header says {header.file_bytes} bytes; the file may be truncated"]


def _store(found: Inspection) -> Inspection:
    from tomostream.store.records import checked_attributes  # noqa: PLC0415  (as below)
    from tomostream.store.stored_levels import stored_levels  # noqa: PLC0415  (as below)
    from tomostream.store.zarr_opening import is_url, open_group  # noqa: PLC0415  (zarr takes a third of a second, an MRC file needs none)

    group = open_group(found.path)
    attributes = dict(group.attrs)
    zarr_format = group.metadata.zarr_format
    metadata = read_image_metadata(attributes, found.path)
    levels, doubts = stored_levels(found.path, metadata, zarr_format)
    size = None if is_url(found.path) else sum(file.stat().st_size for file in Path(found.path).rglob("*") if file.is_file())
    ours = checked_attributes(attributes, found.path)
    problems: list[str] = []
    warnings = [*metadata.warnings, *doubts]
    if size is not None:
        missing = [text for level in levels if (text := _missing(found.path, level, zarr_format)) is not None]
        # a shard that was never written reads as zeros: normal in masks of other software, data loss in a store that we finished
        (problems if ours.get("complete") is True else warnings).extend(missing)
    first = levels[0]
    warnings += shape_doubts(first.shape)
    if size is not None and not problems:
        warnings += _look_at_level(
            found.path,
            [one for one in levels if math.prod(one.shape) >= TELLING_VOXELS] or levels[:1],
            zarr_format,
            ours.get("kind") if isinstance(ours, Mapping) else None,
        )
    return replace(
        found,
        shape=first.shape,
        dtype=first.dtype.name,
        spacing=metadata.spacing if metadata.has_unit else None,
        statistics=_source_statistics(ours),
        size=size,
        levels=len(levels),
        details={
            "zarr_format": zarr_format,
            "chunk": first.layout.chunk,
            "shard": first.layout.shard,
            "made_by_tomostream": bool(ours),
        },
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def _missing(path: str, level: StoredLevel, zarr_format: int) -> str | None:
    """Report how many of a level's files are missing or empty, if any are."""
    from tomostream.store.zarr_opening import open_array  # noqa: PLC0415  (as above)

    array = open_array(path, level.path, zarr_format)
    folder = Path(path) / level.path
    leading = (0,) * (array.ndim - 3)
    grid = level.layout.shards
    total = math.prod(grid.counts)  # damaged metadata may claim far more files than any disk holds
    there = {os.path.join(here, name) for here, _, names in os.walk(folder) for name in names}
    empty = {file for file in there if not os.path.getsize(file)}
    lost, first, held = 0, "", 0
    for index in grid.indices():
        file = str(folder / array.metadata.encode_chunk_key(leading + index))
        if file in there and file not in empty:
            held += 1
        else:
            lost, first = lost + 1, first or file
        if held + lost > len(there) + _MOST_LOOKED_AT:
            lost = total - len(there - empty)
            break
    if not lost:
        return None
    return f"{lost} of {total} files of level {level.path} are missing or empty and read as zeros, the first is {first}"


def _source_statistics(ours: Mapping[str, Any]) -> dict[str, float | None] | None:
    from tomostream.store.typed_json import check_json  # noqa: PLC0415  (as above)

    found = (ours.get("source") or {}).get("statistics")
    if not isinstance(found, dict):
        return None
    statistics: dict[str, float | None] = check_json(found, dict[str, float | None], "the source's statistics")
    return statistics
