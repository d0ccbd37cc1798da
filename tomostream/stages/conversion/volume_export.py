"""Write a tomogram or a score map for other software: an MRC file, or an OME-Zarr 0.4 store.  Streamed.

1. Read bands of whole slices, as many as a part of the budget holds; scores are decoded (int8 probabilities become float32).
2. MRC: the voxels as they are where MRC has their type (int8, int16, uint16, float16, float32), else float32; the head, with their
   statistics, is written last.  Angstrom per voxel and the origin go into the head.
3. OME-Zarr 0.4: Zarr v2, a level for each that is stored; scale and translation in angstrom, the origin in the translation.  The metadata are
   written last, and the folder gets its name when it is whole.

The origin is that of the MRC file from which `convert` made the store; 0 where none is known.  Positions of picks don't count from it.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc

from tomostream.budget import LIBRARIES_BYTES
from tomostream.errors import BudgetError, InputError
from tomostream.geometry import Box, Triple
from tomostream.progress import Progress
from tomostream.remote.atomic_files import replacing
from tomostream.score_map import SCORES, as_score_map
from tomostream.store.zarr_loop import start_loop
from tomostream.tomogram import Tomogram, open_tomogram

FORMATS = ("mrc", "ome-zarr-0.4")
_ENDINGS = {".mrc": "mrc", ".map": "mrc", ".rec": "mrc", ".zarr": "ome-zarr-0.4"}
_MODES = {"int8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}
_VOXEL_BYTES = 24  # of a band at the peak: as read, decoded (float64), as written, and squared for the head
_CHUNK = 64
_LABEL = b"written by tomostream export"


@dataclass(frozen=True, slots=True)
class _Source:
    """What is written: a tomogram or a score map, decoded."""

    tomogram: Tomogram
    dtype: np.dtype[Any]
    read: Callable[[int, Box], np.ndarray]  # of a level
    origin_zyx: tuple[float, float, float]


def volume_format(output: str, name: str | None) -> str:
    """Return the name of the format: the one asked for, or that of the output's ending.

    Raises
    ------
    InputError
        If neither says one.
    """
    found = name or _ENDINGS.get(Path(output).suffix.lower())
    if found not in FORMATS:
        raise InputError(f"{output}: a volume is written as {' or '.join(FORMATS)}; say --format, found {name or Path(output).name!r}")
    return found


def export_volume(store: str, output: Path, form: str, *, memory: int, origin_of: str | None, progress: Progress) -> None:
    """Write one volume.

    Parameters
    ----------
    store
        Tomogram or score map.
    output
        File or store to write; one that `export` wrote is replaced, anything else refused.
    form
        Of `FORMATS`.
    memory
        Budget, bytes.
    origin_of
        The store of the tomogram that a score map is of, for its origin.
    progress
        Is told how far it is.

    Raises
    ------
    InputError, BudgetError
        If something else is there, or a slice does not fit the budget.
    """
    source = _source(open_tomogram(store), None if origin_of is None else open_tomogram(origin_of))
    _refuse_other(output, form)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with progress.track(f"export {source.tomogram.name}", source.tomogram.shape[0]) as bar:
            write = _write_mrc if form == "mrc" else _write_zarr
            write(source, output, memory, bar.advance)
    except OSError as error:
        raise InputError(f"{output} can't be written: {error.strerror or error}; choose another folder or free some space") from None


def _source(tomogram: Tomogram, origin_of: Tomogram | None) -> _Source:
    recorded = (origin_of or tomogram).attributes.get("source", {})
    xyz = [value or 0.0 for value in recorded.get("origin_xyz", (0.0, 0.0, 0.0))]
    origin = (float(xyz[2]), float(xyz[1]), float(xyz[0]))
    if tomogram.attributes.get("kind") == SCORES:
        scores = as_score_map(tomogram)
        kind = np.dtype(np.float32)
        return _Source(tomogram, kind, lambda level, box: scores.at_level(level).read(box).astype(kind, copy=False), origin)
    kind = tomogram.dtype if tomogram.dtype.name in _MODES else np.dtype(np.float32)
    return _Source(tomogram, kind, lambda level, box: tomogram.at_level(level).read(box).astype(kind, copy=False), origin)


def _refuse_other(output: Path, form: str) -> None:
    if not output.exists():
        return
    if form == "mrc" and output.is_file():
        with output.open("rb") as file:
            if _LABEL in file.read(1024):
                return
    if form != "mrc" and (output / ".zattrs").is_file() and _LABEL in (output / ".zattrs").read_bytes():
        return
    raise InputError(f"{output} exists, and `tomostream export` did not write it; choose another name, or remove it")


def _bands(shape: Triple, memory: int, step: int, name: str) -> Iterator[Box]:
    """Bands of whole slices, a multiple of `step` deep where the budget holds that."""
    slice_bytes = shape[1] * shape[2] * _VOXEL_BYTES
    depth = (memory - LIBRARIES_BYTES) // slice_bytes // step * step
    if depth < 1:
        needed = LIBRARIES_BYTES + step * slice_bytes
        raise BudgetError(
            f"exporting {name} needs {needed / 1e9:.2f} GB for {step} of its slices, the budget is {memory / 1e9:.2f} GB; raise --memory"
        )
    for z in range(0, shape[0], depth):
        yield Box((z, 0, 0), (min(z + depth, shape[0]), shape[1], shape[2]))


def _write_mrc(source: _Source, output: Path, memory: int, advance: Callable[[int], None]) -> None:
    from mrcfile.dtypes import HEADER_DTYPE

    shape, spacing = source.tomogram.shape, source.tomogram.spacing
    low, high, total, squares = math.inf, -math.inf, 0.0, 0.0
    with replacing(output) as temporary, temporary.open("wb") as file:
        file.write(b"\0" * HEADER_DTYPE.itemsize)
        for box in _bands(shape, memory, 1, source.tomogram.name):
            block = np.ascontiguousarray(source.read(0, box))
            file.write(block.astype(block.dtype.newbyteorder("<"), copy=False).data.cast("B"))
            low, high = min(low, float(block.min())), max(high, float(block.max()))
            total += float(block.sum(dtype=np.float64))
            squares += float(np.square(block, dtype=np.float64).sum())
            advance(box.shape[0])
        count = math.prod(shape)
        head = np.zeros((), HEADER_DTYPE)
        head["nz"], head["ny"], head["nx"] = head["mz"], head["my"], head["mx"] = shape
        head["mode"] = _MODES[source.dtype.name]
        for axis, edge, origin in zip("zyx", shape, source.origin_zyx, strict=True):
            head["cella"][axis], head["origin"][axis] = edge * spacing, origin
        head["cellb"] = (90, 90, 90)
        head["mapc"], head["mapr"], head["maps"], head["ispg"], head["nversion"], head["nlabl"] = 1, 2, 3, 1, 20141, 1
        head["dmin"], head["dmax"], head["dmean"] = low, high, total / count
        head["rms"] = math.sqrt(max(squares / count - (total / count) ** 2, 0.0))
        head["map"], head["machst"][:2] = b"MAP ", 0x44
        head["label"][0] = _LABEL
        file.seek(0)
        file.write(head.tobytes())


def _write_zarr(source: _Source, output: Path, memory: int, advance: Callable[[int], None]) -> None:
    tomogram, partial = source.tomogram, output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    start_loop()
    group = zarr.open_group(partial, mode="w", zarr_format=2)
    datasets = []
    for level in range(tomogram.level_count):
        shape = tomogram.at_level(level).shape
        array = group.create_array(
            str(level),
            shape=shape,
            chunks=tuple(min(_CHUNK, n) for n in shape),
            dtype=source.dtype,
            compressors=Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE),
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        for box in _bands(shape, memory, min(_CHUNK, shape[0]), tomogram.name):
            array[box.slices] = source.read(level, box)
            if level == 0:
                advance(box.shape[0])
        datasets.append(_dataset(level, tomogram.spacing, source.origin_zyx))
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "name": tomogram.name, "axes": axes, "datasets": datasets}]
    group.attrs["tomostream"] = {"by": _LABEL.decode()}
    if output.exists():
        shutil.rmtree(output)
    partial.rename(output)


def _dataset(level: int, spacing: float, origin_zyx: tuple[float, float, float]) -> dict[str, Any]:
    """A level's place: a coarse voxel's centre lies between those of the voxels that it averages."""
    shift = spacing * (2**level - 1) / 2
    return {
        "path": str(level),
        "coordinateTransformations": [
            {"type": "scale", "scale": [spacing * 2.0**level] * 3},
            {"type": "translation", "translation": [origin + shift for origin in origin_zyx]},
        ],
    }
