"""Functions on volumes: open, convert, statistics, label masks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tomostream import defaults
from tomostream.cluster import Resources
from tomostream.errors import InputError
from tomostream.geometry import Triple, triple
from tomostream.mrc_volume import MrcVolume, open_mrc
from tomostream.normalisation import Normalisation
from tomostream.particles import Particles, number_array
from tomostream.progress import Progress
from tomostream.python_words import PythonProgress, TomostreamWarning, speaks_python
from tomostream.remote.places import Place, RemotePath, place
from tomostream.store.naming import MRC_ENDINGS
from tomostream.tomogram import Tomogram, open_tomogram
from tomostream.units import parse_bytes, parse_shape

if TYPE_CHECKING:
    import dask.array as da

from tomostream.api.sources import checked_number, checked_path, opened


@speaks_python
def open(path_or_url: str | Path | RemotePath, *, level: int = 0, voxel_size: float | None = None) -> Tomogram | MrcVolume:
    """Open a tomogram: a store (OME-Zarr 0.4 or 0.5, a folder or URL), or an MRC file, which need not be converted to look at it.

    Parameters
    ----------
    path_or_url
        The store or file.
    level
        Pyramid level; each halves the resolution.
    voxel_size
        Angstrom; needed if a store does not give it.  For an MRC file it replaces the header's.

    Returns
    -------
    Tomogram or MrcVolume
        Index it to read voxels (`t[36]`, `t[10:20, ::2]`); `.array` is a lazy dask array, and `numpy.asarray` reads all voxels.

    Raises
    ------
    InputError
        If the file or store is missing, broken or unfinished.
    """
    text = str(checked_path(path_or_url, "path_or_url"))
    if text.lower().endswith(MRC_ENDINGS) and "://" not in text:
        if level:
            raise InputError(f"{text} is an MRC file, which has level 0 only; convert it to get a pyramid")
        return open_mrc(Path(text), voxel_size=voxel_size)
    return open_tomogram(text, level=level, voxel_size=voxel_size)


@speaks_python
def convert(
    path: str | Path | RemotePath,
    out: str | Path | RemotePath,
    *,
    voxel_size: float | None = None,
    dtype: str = defaults.DTYPE,
    chunk: int | Triple | None = None,
    shard: int | Triple | None = None,
    codec: str = defaults.CODEC,
    levels: int | None = None,
    memory: str = defaults.MEMORY,
    overwrite: bool = False,
    assume_mrc: bool = False,
    progress: Progress | None = None,
) -> Place:
    """Convert an MRC file to the store `out/NAME.ome.zarr`, out of core, and return its path.

    Parameters
    ----------
    path
        An MRC file (.mrc .rec .map, also .gz .bz2).
    out
        Folder for the store.
    voxel_size
        Angstrom; needed only if the header has none.
    dtype
        `keep`, `float32`, `float16` or `int8`.
    chunk, shard
        Edges in voxels; None: near 64 and 256, chosen so that they divide the volume.
    codec
        `none`, `zstd[:level]` or `lz4-bitshuffle`.
    levels
        Number of pyramid levels; None: until the largest edge is at most 64 voxels.
    memory
        Memory budget, for example `2GB`.
    overwrite
        Replace a store that was made with other settings.
    assume_mrc
        Read a file without the stamp `MAP ` as MRC, if its header describes a volume.
    progress
        Receives the progress; None: no progress, and warnings are Python warnings.

    Raises
    ------
    InputError, ExistsError, BudgetError
    """
    from tomostream.stages.conversion.stage import convert_many
    from tomostream.store.conversion import ConvertSettings
    from tomostream.store.naming import distinct_names

    settings = ConvertSettings(
        voxel_size=voxel_size,
        dtype=dtype,
        chunk=None if chunk is None else parse_shape(chunk),
        shard=None if shard is None else parse_shape(shard),
        codec=codec,
        levels=levels,
        assume_mrc=assume_mrc,
    )
    return convert_many(
        distinct_names([str(checked_path(path, "path"))]),
        place(checked_path(out, "out")),
        settings,
        resources=Resources(memory=parse_bytes(memory)),
        overwrite=overwrite,
        progress=progress or PythonProgress(),
    )[0]


@speaks_python
def statistics(source: Any, *, memory: str = defaults.MEMORY) -> Normalisation:
    """Compute the voxel statistics over the finite voxels: mean and standard deviation, before and after a clip at 3 sigma.

    Parameters
    ----------
    source
        A tomogram, its path or URL, or a numpy, zarr or dask array (z, y, x).
    memory
        Memory budget, for example `2GB`.

    Raises
    ------
    InputError
        If there is no finite voxel.
    """
    from tomostream.stages.voxel_statistics.stage import measure, measure_array

    if isinstance(source, str | Path | RemotePath | Tomogram):
        return measure(opened(source), memory=parse_bytes(memory), keep=False)
    if isinstance(source, MrcVolume):
        return measure_array(source.array, memory=parse_bytes(memory), workers=1, name=source.name)
    return measure_array(source, memory=parse_bytes(memory), workers=1, name="the array")


@speaks_python
def label_mask(
    points_zyx: np.ndarray | Sequence[Sequence[float]] | Particles,
    shape: Triple,
    *,
    radius: float,
    kind: str = defaults.LABEL_SHAPE,
    chunks: int | Triple = defaults.SHARD_VOX,
) -> da.Array:
    """Return the label mask of a volume as a lazy dask array of uint8: 1 within a label, else 0.

    Parameters
    ----------
    points_zyx
        (n, 3), voxels, not rounded; or `Particles` of one tomogram, in voxels or with known voxel size.
    shape
        Of the volume (z, y, x).
    radius
        Of the labels, voxels.
    kind
        Shape of the labels: `sphere` (voxels whose centre is within the radius), `gaussian` or `cube`.
    chunks
        Edges of the blocks, voxels; the mask does not depend on them.

    Raises
    ------
    InputError
        If the points are not (n, 3) or not finite, radius or kind are invalid, or no label lies in the volume.
    """
    from tomostream.graph.label_arrays import label_array

    if isinstance(points_zyx, Particles):
        if len(names := points_zyx.tomograms()) > 1:
            raise InputError(
                f"these particles are of {len(names)} tomograms ({', '.join(names[:4])}); choose one, as particles.of(tomogram=...)"
            )
        points_zyx = points_zyx.positives().in_unit("voxel").position_zyx
    radius = checked_number(radius, "radius")
    shape = _checked_shape(shape)
    points = number_array(points_zyx, "points_zyx")
    if points.size and (points.ndim != 2 or points.shape[1] != 3):
        raise InputError(f"points_zyx must have the shape (n, 3), a row z, y, x for each point; found {points.shape}")
    points = points.reshape(-1, 3)
    with np.errstate(invalid="ignore"):
        is_near = ((points > -float(radius) - 1) & (points < np.asarray(triple(shape)) + float(radius))).all(axis=1)
    if len(points) and np.isfinite(points).all() and not is_near.all():
        text = (
            f"{np.count_nonzero(~is_near)} of {len(points)} points lie outside a volume of {triple(shape)} voxels, the largest at "
            f"{tuple(round(v, 1) for v in points.max(axis=0).tolist())}; points are z, y, x in voxels: are they angstrom (divide by the voxel size), or x, y, z?"
        )
        if not is_near.any():
            raise InputError(text)
        warnings.warn(text, TomostreamWarning, stacklevel=2)
    return label_array(points, shape=triple(shape), radius=float(radius), kind=kind, chunks=triple(chunks))


def _checked_shape(shape: Any) -> Triple:
    try:
        return parse_shape(shape if isinstance(shape, str | int) else triple(shape), "shape")
    except (TypeError, ValueError):
        raise InputError(f"shape must be three whole numbers (z, y, x), as array.shape; found {shape!r}") from None
