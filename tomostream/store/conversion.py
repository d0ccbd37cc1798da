"""How does an MRC file become a store, within a memory budget, and safely when killed at any moment?

1. Check the header, the voxel spacing, existing output, memory and disk.  Everything that is refused is refused here, before any work.
2. Download a remote source, with one request; decompress a compressed one to a temporary file beside the output (`decompress`).
3. If the stored type needs it, read the file once to measure it (`casting`).
4. Band by band (`z_bands`): read, cut into shards, cast each, write it with its coarser levels, sum them up (`shard_sketches`), record
   it as done.
5. Write the group's metadata, then rename.  A run that was killed resumes at its first unfinished shard.

The stored bytes depend on the source and the settings only, not on the memory budget or on restarts.

Limits: the levels are means of the stored voxels; with int8 they are rounded again at each level.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from tomostream import defaults
from tomostream.budget import LIBRARIES_BYTES, conversion_bytes, libraries_bytes, remote_bytes
from tomostream.errors import BudgetError, InputError
from tomostream.fingerprint import Fingerprint
from tomostream.geometry import Triple, triple
from tomostream.moments import is_counted
from tomostream.remote.copies import head_of, identity_of, local_file
from tomostream.remote.places import Place, RemotePath
from tomostream.store.casting import PIECE_VOXELS, Casting, check_stored_type, plan_casting
from tomostream.store.decompress import compression_of, peek_header, plain_file
from tomostream.store.existing_output import finished_fingerprint, folder_bytes, half_written_head, refuse_other_settings
from tomostream.store.identity import FIRST_BYTES, SourceIdentity, file_identity
from tomostream.store.mrc import MrcHeader
from tomostream.store.mrc_voxels import MrcReader
from tomostream.store.naming import tomogram_name
from tomostream.store.omezarr import StoreWriter, store_state
from tomostream.store.shard_sketches import ShardSketch, statistics_from
from tomostream.store.source_facts import source_facts
from tomostream.store.spacing import spacing_doubt
from tomostream.store.specification import StoreLayout, StoreSpec
from tomostream.store.z_bands import Band, plan_bands
from tomostream.store.zarr_opening import PARTIAL_SUFFIX
from tomostream.units import format_bytes

_BAND_BYTES = 2**30  # longer bands are read no faster, and delay the first shard
_SPACING_TOLERANCE = 0.01  # relative difference of header and option below which there is no warning


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertSettings:
    """How a tomogram is stored: everything that its bytes depend on, apart from the source.

    Parameters
    ----------
    voxel_size
        Angstrom; None: the header's.
    dtype
        `keep`, `float32`, `float16` or `int8`; see `casting`.
    chunk, shard
        Edges at level 0, voxels (z y x); None: near 64 and 256, chosen so that they divide the volume (`edges`).
    codec
        `none`, `zstd`, `zstd:LEVEL` or `lz4-bitshuffle`.
    levels
        Of the pyramid, with level 0; None: automatic.
    checksum
        Whether to store the source's SHA-256.
    assume_mrc
        Whether to read a file without the stamp `MAP ` as MRC.
    """

    voxel_size: float | None = None
    dtype: str = defaults.DTYPE
    chunk: Triple | None = None
    shard: Triple | None = None
    codec: str = defaults.CODEC
    levels: int | None = None
    checksum: bool = False
    assume_mrc: bool = False


def convert_file(
    source: Place,
    out_folder: Place,
    settings: ConvertSettings,
    *,
    memory: int,
    overwrite: bool,
    name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    report: Callable[[str], None],
) -> Place:
    """Convert an MRC file (also .gz, .bz2) to `out_folder/NAME.ome.zarr`; skip what is already done.

    Parameters
    ----------
    source
        The file, local or remote.
    out_folder
        Created if it does not exist; local or on an object store.
    settings
        How it is stored.
    memory
        Budget of the process in bytes, libraries included.
    overwrite
        Whether to replace a store that was made from another source or with other settings; a finished store is made again.
    name
        The tomogram's name; None: the file's.
    progress
        Called with the number of finished shards and of all shards.
    report
        Called with each warning, one line.

    Returns
    -------
    The store's path.

    Raises
    ------
    InputError
        If the source or an option is wrong, or the folder can't be written.
    BudgetError
        If memory or disk doesn't suffice.
    ExistsError
        If a store of another source or with other settings exists, and `overwrite` is false.
    BusyError
        If another process converts to the same store.
    TomostreamError
        If the disk is full; finished shards are kept, and the next run continues.
    """
    plan = _Plan.of(source, out_folder, settings, name, report, is_kept=not overwrite)
    changed = _last_change(source)
    target = plan.target
    state = store_state(target, plan.fingerprint)
    if state == "done" and not overwrite:
        return target
    if not overwrite:
        refuse_other_settings(target, plan.fingerprint)
    bands = plan.bands(memory, is_kept=state == "partial")
    for warning in plan.header.warnings:
        report(f"{source}: {warning}")
    scratch = target.parent if isinstance(target, Path) else Path(tempfile.gettempdir())
    with (
        local_file(source) as local,
        plain_file(peek_header(local, assume_mrc=settings.assume_mrc), scratch, report) as plain,
        MrcReader(replace(plan.header, path=plain)) as reader,
    ):
        casting = plan_casting(settings.dtype, plan.header.dtype, reader.pieces(PIECE_VOXELS), source)
        spec = plan.spec_with_facts(casting, _sha256(local) if settings.checksum else None)
        with StoreWriter.create_or_resume(target, spec, fingerprint=plan.fingerprint, overwrite=overwrite) as writer:
            try:
                _write_bands(bands, reader, casting.apply, writer, progress)
            finally:
                if is_changed := _has_changed(source, changed, plan.identity):
                    writer.forget()  # some of its shards are of the old content, some of the new
            if is_changed:
                raise InputError(f"{source}: changed while it was being converted; run the command again with --overwrite")
            return writer.finish(statistics_from(writer.notes, writer.layout.levels, writer.layout.dtype, clip_sigma=defaults.CLIP_SIGMA))


def _has_changed(source: Place, changed: object, identity: SourceIdentity) -> bool:
    """Whether a source is not what it was when its conversion began; one that is gone, too."""
    try:
        return _last_change(source) != changed or _identity(source) != identity
    except (OSError, InputError):
        return True


@dataclass(frozen=True, slots=True)
class _Plan:
    """A planned conversion: its source, its target and its layout."""

    source: Place
    header: MrcHeader
    identity: SourceIdentity
    target: Place
    settings: ConvertSettings
    spec: StoreSpec
    layout: StoreLayout

    @classmethod
    def of(
        cls, source: Place, out_folder: Place, settings: ConvertSettings, name: str | None, report: Callable[[str], None], *, is_kept: bool
    ) -> _Plan:
        """Read the source's header and check the settings; refuse what can't be converted."""
        check_stored_type(settings.dtype)
        header = peek_header(source, assume_mrc=settings.assume_mrc)
        name = name or tomogram_name(str(source))
        spacing = _choose_spacing(header, settings.voxel_size, report)
        identity = _identity(source)
        stored = header.native_dtype if settings.dtype == "keep" else np.dtype(settings.dtype)
        target = out_folder / f"{name}.ome.zarr"
        settings = _as_begun(settings, target) if is_kept else settings
        spec = StoreSpec(name, header.shape, stored, spacing, settings.chunk, settings.shard, settings.codec, settings.levels)
        return cls(source, header, identity, target, settings, spec, StoreLayout.plan(spec))

    @property
    def fingerprint(self) -> Fingerprint:
        """Everything that determines the stored bytes."""
        settings = asdict(self.settings)
        del settings["assume_mrc"]  # it does not change the stored bytes
        return {"source": self.identity, "settings": settings}

    def bands(self, memory: int, *, is_kept: bool) -> tuple[Band, ...]:
        """Plan the bands in which the source is read, check memory and disk, and create the folder.

        `is_kept`: the shards of a half-written store already take up disk space.
        """
        is_remote = isinstance(self.source, RemotePath) or isinstance(self.target, RemotePath)
        band_voxels = band_voxels_within(memory - remote_bytes(is_remote), self.header, self.layout, libraries=libraries_bytes())
        if isinstance(self.target, Path):
            _make_folder(self.target.parent)
            _check_disk(self.header, self.layout, self.target, is_kept=is_kept)
        if isinstance(self.source, RemotePath):
            _check_download(self.header, int(self.identity["size"] or 0))
        # after the check of the disk: the edges in a damaged header may be absurd
        return plan_bands(self.layout.levels[0].shards, most_voxels=band_voxels)

    def spec_with_facts(self, casting: Casting, sha256: str | None) -> StoreSpec:
        """Return the store's specification, with the recorded facts about its source."""
        facts: dict[str, object] = {"source": source_facts(self.header, self.identity["size"], sha256)}
        if casting.scale is not None:
            facts |= {"stored_scale": casting.scale, "stored_offset": casting.offset}
        return replace(self.spec, attributes=facts)


def _as_begun(settings: ConvertSettings, target: Place) -> ConvertSettings:
    """The settings with the edges of a store that an earlier release made or began, before they were chosen: the voxels are the same."""
    if settings.chunk is not None or settings.shard is not None:
        return settings
    nominal = triple(defaults.CHUNK_VOX), triple(defaults.SHARD_VOX)
    head = half_written_head(target)
    found = finished_fingerprint(target) or (head["fingerprint"] if head is not None else {})
    earlier = found.get("settings")
    if isinstance(earlier, dict) and (earlier.get("chunk"), earlier.get("shard")) == (list(nominal[0]), list(nominal[1])):
        return replace(settings, chunk=nominal[0], shard=nominal[1])
    return settings


def _write_bands(
    bands: tuple[Band, ...],
    reader: MrcReader,
    cast: Callable[[np.ndarray], np.ndarray],
    writer: StoreWriter,
    progress: Callable[[int, int], None] | None,
) -> None:
    pending = set(writer.pending())
    total = len(writer.shards)
    if progress is not None:
        progress(total - len(pending), total)
    for band in bands:
        wanted = [index for index in band.shards if index in pending]
        if not wanted:
            continue
        voxels = reader.read(band.box)
        for index in wanted:
            core = writer.shards.core(index).relative_to(band.box.start)
            sketch = ShardSketch()
            is_measured = isinstance(writer.path, Path) and is_counted(writer.layout.dtype)
            writer.write(index, cast(voxels[core.slices]), look=sketch.look if is_measured else None)
            if is_measured:
                writer.add_note({**sketch.note(index)})
            writer.mark_done(index)
            pending.remove(index)
            if progress is not None:
                progress(total - len(pending), total)
        del voxels  # before the next band is read: two bands would exceed the budget


def _choose_spacing(header: MrcHeader, voxel_size: float | None, report: Callable[[str], None]) -> float:
    if voxel_size is None:
        spacing = header.spacing
        if spacing is None:
            raise InputError(f"{header.path}: {header.spacing_doubt}")
        if header.spacing_doubt is not None:
            report(f"{header.path}: {header.spacing_doubt}")
        return spacing
    if not 0 < voxel_size < math.inf:
        raise InputError(f"--voxel-size must be above zero and finite (angstrom), found {voxel_size:g}")
    if (doubt := spacing_doubt(voxel_size)) is not None:
        report(f"{header.path}: {doubt}")
    found = header.spacing_zyx
    if found is not None and max(abs(one - voxel_size) for one in found) > _SPACING_TOLERANCE * voxel_size:
        z, y, x = found
        report(f"{header.path}: --voxel-size {voxel_size:g} is used, but the header says z {z:.6g}, y {y:.6g}, x {x:.6g} angstrom")
    return voxel_size


def band_voxels_within(memory: int, header: MrcHeader, layout: StoreLayout, *, libraries: int) -> int:
    """Return how many voxels may be read at once when the libraries take `libraries` bytes of the memory; at least one shard."""
    level = layout.levels[0]
    shard = level.shards.core((0, 0, 0)).shape  # a volume may be smaller than a shard
    source_itemsize = header.dtype.itemsize

    def projected(band_voxels: int) -> int:
        return conversion_bytes(
            band_voxels=band_voxels,
            shard=shard,
            chunk=level.chunk,
            source_itemsize=source_itemsize,
            stored_itemsize=layout.dtype.itemsize,
            is_cast=layout.dtype != header.native_dtype,
        )

    needed = projected(math.prod(shard))
    if needed > memory:
        raise BudgetError(
            f"{header.path}: converting needs {format_bytes(needed)} for one shard of {shard} voxels (z, y, x; {header.native_dtype} stored as "
            f"{layout.dtype}) but --memory is {format_bytes(memory)}; raise --memory, or choose a smaller --shard"
        )
    least = math.prod(shard) * source_itemsize
    spare = memory - projected(0) - (libraries - LIBRARIES_BYTES)
    return max(least, min(spare, _BAND_BYTES)) // source_itemsize


def _check_download(header: MrcHeader, size: int) -> None:
    """Compare the size of a remote source, and of its decompressed copy, with the free space in the temporary folder."""
    folder = tempfile.gettempdir()
    needed = size + (header.file_bytes if compression_of(header.path) is not None else 0)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BudgetError(
            f"{header.path}: the download needs {format_bytes(needed)}, but {folder} has {format_bytes(free)} free; free some space, or set TMPDIR to a folder on a larger disk"
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: can't be made: {error.strerror or error}; choose another output folder") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: can't be written: permission denied; choose another output folder, or change its permissions")


def _check_disk(header: MrcHeader, layout: StoreLayout, target: Path, *, is_kept: bool) -> None:
    """Compare the uncompressed size of the store, and of a decompressed source, with the free space."""
    needed = layout.stored_bytes
    if is_kept:  # the shards of a half-written store already take up their space
        needed = max(0, needed - folder_bytes(target.with_name(target.name + PARTIAL_SUFFIX)))
    temporary = header.file_bytes if compression_of(header.path) is not None else 0
    free = shutil.disk_usage(target.parent).free
    if needed + temporary > free:
        extra = f" and {format_bytes(temporary)} for the decompressed file" if temporary else ""
        raise BudgetError(
            f"{header.path}: the store of {header.shape} voxels needs {format_bytes(needed)}{extra}, but {target.parent} has {format_bytes(free)} free; "
            "free space, choose another output folder, or a smaller --dtype"
        )


def _identity(source: Place) -> SourceIdentity:
    if isinstance(source, RemotePath):
        guard = hashlib.sha256(head_of(source, FIRST_BYTES)).hexdigest()
        known = identity_of(source)
        return {"name": source.name, "size": known["size"], "tag": known["tag"], "sha256_of_first_mb": guard}
    try:
        return file_identity(source)
    except OSError as error:
        raise InputError(f"{source}: can't be read: {error.strerror or error}") from error


def _last_change(source: Place) -> int | None:
    """Return when a local source was last changed; for a remote source the tag in its identity serves instead."""
    return None if isinstance(source, RemotePath) else source.stat().st_mtime_ns


def _sha256(source: Path) -> str:
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{source}: can't be read: {error.strerror or error}") from error
