"""The Python functions: each stage on files as the command line has it, and on plain arrays.

Names are exported by the package (`ts.open`, `ts.pick`, ...).  Lengths are text with a unit (`"135A"`, `"10vox"`) where files are meant, and
voxels where plain arrays are.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tomostream import defaults
from tomostream.cluster import Resources
from tomostream.errors import InputError
from tomostream.geometry import Triple, triple
from tomostream.mrc_volume import MrcVolume, open_mrc
from tomostream.normalisation import Normalisation
from tomostream.particles import Particles
from tomostream.pick_records import PickRecords
from tomostream.progress import Progress
from tomostream.python_words import PythonProgress, TomostreamWarning, speaks_python
from tomostream.remote.places import Place, RemotePath, place
from tomostream.store.naming import MRC_ENDINGS
from tomostream.tomogram import Tomogram, open_tomogram
from tomostream.units import Length, parse_bytes, parse_shape

if TYPE_CHECKING:
    import dask.array as da

    from tomostream.evaluation import Evaluation
    from tomostream.formats.registry import Conversion
    from tomostream.picking.how_many import HowMany
    from tomostream.strategies.protocol import Model

Source = str | Path | RemotePath | Tomogram


@speaks_python
def open(path_or_url: str | Path | RemotePath, *, level: int = 0, voxel_size: float | None = None) -> Tomogram | MrcVolume:
    """Open a tomogram: a store (OME-Zarr 0.4 or 0.5, a folder or URL), or a plain MRC file to look at without conversion.

    Parameters
    ----------
    path_or_url
        The store or file.
    level
        Pyramid level; each halves the resolution.
    voxel_size
        Angstrom, where a store does not say it; of an MRC file it wins over the header's.

    Returns
    -------
    Tomogram or MrcVolume
        Voxels are read where it is indexed (`t[36]`, `t[10:20, ::2]`), by `.array` (a lazy dask array) or, all, by `numpy.asarray`.

    Raises
    ------
    InputError
        If there is no whole volume.
    """
    text = str(path_or_url)
    if text.lower().endswith(MRC_ENDINGS) and "://" not in text:
        if level:
            raise InputError(f"{text} is an MRC file, which has the level 0 only; convert it for a pyramid")
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
    """Convert an MRC file to `out/NAME.ome.zarr`, streamed; returns the store.

    Parameters
    ----------
    path
        MRC (.mrc .rec .map, also .gz .bz2).
    out
        Folder.
    voxel_size
        Angstrom; needed only where the header has none.
    dtype
        `keep`, `float32`, `float16` or `int8`.
    chunk, shard
        Edges in voxels; None: near 64 and 256, chosen so that they divide the volume.
    codec
        `none`, `zstd[:level]` or `lz4-bitshuffle`.
    levels
        Of the pyramid; None: until 64 voxels are left.
    memory
        Budget, as `2GB`.
    overwrite
        Replace a store that was made with other settings.
    assume_mrc
        Read a file without the stamp `MAP ` as MRC, if its header is a volume's.
    progress
        Is told how far it is; None: only warnings are given, as Python's.

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
        distinct_names([str(path)]),
        place(out),
        settings,
        resources=Resources(memory=parse_bytes(memory)),
        overwrite=overwrite,
        progress=progress or PythonProgress(),
    )[0]


@speaks_python
def statistics(source: Any, *, memory: str = defaults.MEMORY) -> Normalisation:
    """Measure mean and standard deviation, also of the standardised data clipped at 3 sigma, over the finite voxels.

    Parameters
    ----------
    source
        A tomogram, its path or URL, or a numpy, zarr or dask array (z, y, x).
    memory
        Budget, as `2GB`.

    Raises
    ------
    InputError
        If there is no finite voxel.
    """
    from tomostream.stages.voxel_statistics.stage import measure, measure_array

    if isinstance(source, str | Path | RemotePath | Tomogram):
        return measure(_opened(source), memory=parse_bytes(memory), keep=False)
    if isinstance(source, MrcVolume):
        return measure_array(source.array, memory=parse_bytes(memory), workers=1, name=source.name)
    return measure_array(source, memory=parse_bytes(memory), workers=1, name="the array")


@speaks_python
def label_mask(
    points_zyx: np.ndarray | Sequence[Sequence[float]],
    shape: Triple,
    *,
    radius: float,
    kind: str = defaults.LABEL_SHAPE,
    chunks: int | Triple = defaults.SHARD_VOX,
) -> da.Array:
    """Return the label mask of a volume as a lazy dask array of uint8: 1 near a point, else 0.

    Parameters
    ----------
    points_zyx
        (n, 3), voxels, not rounded.
    shape
        Of the volume (z, y, x).
    radius
        Voxels.
    kind
        `sphere` (a voxel belongs to it if its centre is within the radius), `gaussian` or `cube`.
    chunks
        Edges of the blocks, voxels; the mask does not depend on them.

    Raises
    ------
    InputError
        If the points are not (n, 3), one is not finite, the radius or the kind can't be, or no label lies in the volume.
    """
    from tomostream.graph.label_arrays import label_array

    points = np.asarray(points_zyx, dtype=np.float64)
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


@speaks_python
def train(
    config: str | Path | RemotePath | dict[str, Any],
    *,
    out: str | Path | RemotePath | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Place:
    """Train as a configuration (a YAML file or its values) says; returns the model folder.

    Raises
    ------
    TomostreamError
        If configuration, clicks and tomograms don't fit together; before any training.
    """
    from tomostream.config import configuration_from, load_configuration
    from tomostream.pipeline.training import train_model

    configuration = configuration_from(config, "configuration") if isinstance(config, dict) else load_configuration(config)
    return train_model(configuration, out=None if out is None else place(out), overwrite=overwrite, progress=progress or PythonProgress())


@overload
def predict(
    source: np.ndarray,
    model: str | Path | RemotePath | Model,
    *,
    precision: str = ...,
    threads: int | None = ...,
    memory: str = ...,
    logits: bool = ...,
) -> np.ndarray: ...


@overload
def predict(
    source: Source,
    model: str | Path | RemotePath | Model,
    *,
    out: str | Path | RemotePath,
    precision: str = ...,
    threads: int | None = ...,
    memory: str = ...,
    logits: bool = ...,
    block_size: int | Triple | None = ...,
    voxel_size: float | None = ...,
    overwrite: bool = ...,
    progress: Progress | None = ...,
) -> Place | list[Place]: ...


@speaks_python
def predict(
    source: Any,
    model: str | Path | RemotePath | Model,
    *,
    out: str | Path | RemotePath | None = None,
    precision: str = defaults.PREDICT_PRECISION,
    threads: int | None = None,
    memory: str = defaults.MEMORY,
    logits: bool = False,
    block_size: int | Triple | None = None,
    voxel_size: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Any:
    """Score every voxel: probabilities (or logits) on the tomogram's grid.

    Parameters
    ----------
    source
        A store (path, URL or tomogram), or a plain array (z, y, x) of raw voxels at full resolution.
    model
        Model folder, or what `load_model` returned (its folder is used for stores).
    out
        Folder of the score map; needed for a store.
    precision
        `float32` or `bf16`.
    threads
        Of torch; None: all cores.
    memory
        Budget, as `2GB`.
    logits
        Logits instead of probabilities.
    block_size
        Edge of a block's core, voxels; None: from the budget.
    voxel_size
        Angstrom, where the tomogram's store does not say it.
    overwrite
        Replace a score map that was made otherwise.
    progress
        Is told how far it is; None: only warnings are given, as Python's.

    Returns
    -------
    Path, list of Path or np.ndarray
        The store (one a species, if there are several); for an array float32 (z, y, x), or (species, z, y, x) for several.

    Raises
    ------
    TomostreamError
        If the model does not fit the tomogram, or no block the budget.
    """
    from tomostream.stages.prediction.stage import local_model
    from tomostream.strategies.loading import load_model

    loaded = load_model(local_model(place(model))) if isinstance(model, str | Path | RemotePath) else model
    if isinstance(source, str | Path | RemotePath | Tomogram):
        from tomostream.stages.prediction.stage import PredictSettings, predict_many
        from tomostream.store.naming import distinct_names

        if out is None:
            raise InputError("predict on a store needs out=FOLDER for the score map")
        settings = PredictSettings(
            precision=precision, logits=logits, block_size=parse_shape(block_size) if block_size else None, voxel_size=voxel_size
        )
        [paths] = predict_many(
            distinct_names([source.path if isinstance(source, Tomogram) else str(source)]),
            model=loaded.folder,
            out=place(out),
            settings=settings,
            resources=Resources(threads=threads, memory=parse_bytes(memory)),
            overwrite=overwrite,
            progress=progress or PythonProgress(),
        )
        return paths[0] if len(paths) == 1 else paths
    from tomostream.stages.picks.in_memory import predict_array

    scores = predict_array(np.asarray(source), loaded, precision=precision, threads=threads, memory=parse_bytes(memory), logits=logits)
    return scores[0] if len(scores) == 1 else scores


@overload
def pick(
    source: Source,
    *,
    radius: str,
    threshold: float | None = ...,
    count: int | None = ...,
    expected: int | None = ...,
    smooth: str | None = ...,
    border: str | None = ...,
    block_size: int | Triple | None = ...,
    memory: str = ...,
    workers: int = ...,
    progress: Progress | None = ...,
) -> Particles: ...


@overload
def pick(
    source: Any,
    *,
    radius: float,
    threshold: float | None = ...,
    count: int | None = ...,
    expected: int | None = ...,
    smooth: float | None = ...,
    border: float | None = ...,
    block_size: int | Triple | None = ...,
    memory: str = ...,
    workers: int = ...,
    progress: Progress | None = ...,
) -> PickRecords: ...


@speaks_python
def pick(
    source: Any,
    *,
    radius: float | str,
    threshold: float | None = None,
    count: int | None = None,
    expected: int | None = None,
    smooth: float | str | None = None,
    border: float | str | None = None,
    block_size: int | Triple | None = None,
    memory: str = defaults.MEMORY,
    workers: int = 1,
    progress: Progress | None = None,
) -> Particles | PickRecords:
    """Pick peaks greedily, best first, no two within `radius`: exactly as the sequential loop over the whole volume, ties and all.

    Parameters
    ----------
    source
        A score map's store (path, URL or tomogram): lengths are text with a unit, and the picks a `Particles` table in angstrom.  Or a
        numpy, zarr or dask array (z, y, x): lengths are voxels, and the picks a sequence of records (z, y, x, score), integer voxels.
    radius
        Exclusion radius.
    threshold, count
        Picks score above the threshold (compared in float64); at most `count`.
    expected
        How many particles a person would guess; the peaks' scores then say how many are picked.  One of the three is needed.
    smooth
        Average the scores over a ball of this radius first.
    border
        No picks this near to a face of the volume.
    block_size
        Edge of a block's core, voxels; the picks do not depend on it.
    memory
        Budget, as `2GB`.
    workers
        Threads.
    progress
        Is told how far it is (stores); None: only warnings are given, as Python's.

    Raises
    ------
    InputError
        If none of count, threshold and expected is given, or a length has the wrong form.
    BudgetError
        If the undecided candidates don't fit the budget.
    """
    from tomostream.picking.how_many import how_many

    block = None if block_size is None else parse_shape(block_size, "block_size")
    resources = Resources(memory=parse_bytes(memory), workers=workers)
    if isinstance(source, str | Path | RemotePath | Tomogram):
        from tomostream.score_map import as_score_map
        from tomostream.stages.picks.stage import PickSettings, pick_map

        settings = PickSettings(
            radius=Length.parse(str(radius), "radius"),
            how_many=how_many(count=count, threshold=threshold, expected=expected),
            smooth=Length.parse(str(smooth), "smooth") if smooth else None,
            border=Length.parse(str(border), "border") if border else None,
            block_size=block,
        )
        return pick_map(as_score_map(_opened(source)), settings, resources=resources, progress=progress or PythonProgress())
    wanted = how_many(count=count, threshold=threshold, expected=expected, are_options=False)
    return _pick_array(source, {"radius": radius, "smooth": smooth or 0, "border": border or 0}, wanted, block, resources)


def _pick_array(
    source: Any, lengths: dict[str, float | str], wanted: HowMany | None, block: Triple | None, resources: Resources
) -> PickRecords:
    """Pick from an array, whose lengths are voxels."""
    from tomostream.picking.protocol import Execution, PickRequest
    from tomostream.stages.picks.in_memory import pick_plain

    if any(isinstance(length, str) for length in lengths.values()):
        given = ", ".join(f"{name}={length!r}" for name, length in lengths.items())
        raise InputError(f"an array has no voxel spacing: give lengths as numbers of voxels, found {given}")
    radius, smooth, border = (float(lengths[name]) for name in ("radius", "smooth", "border"))
    request = PickRequest(radius=radius, how_many=wanted, smooth=smooth, border=border)
    return PickRecords(*pick_plain(source, request, Execution(memory=resources.memory, block=block, workers=resources.workers)))


@speaks_python
def evaluate(
    picks: str | Path | RemotePath | Particles,
    truth: str | Path | RemotePath | Particles,
    *,
    tolerance: str = defaults.TOLERANCE,
    species: Sequence[str] | None = None,
    matching: str = defaults.MATCHING,
    beta: float = 1.0,
    voxel_size: float | None = None,
    tomograms: Sequence[str | Path | RemotePath] = (),
) -> Evaluation:
    """Score picks against truth: counts, precision, recall, F per tomogram and pooled.

    Parameters
    ----------
    picks, truth
        Tables, or files or folders of them.
    tolerance
        Distance for a match, as `10vox` or `135A`.
    species
        To score; None: all in the picks.
    matching
        `any`, the paper's rule, or `one-to-one`.
    beta
        Weight of recall in F-beta.
    voxel_size, tomograms
        Angstrom, or stores that say it, where units must be converted.

    Raises
    ------
    InputError
        If the units can't be converted, or the species can't be known.
    """
    from tomostream.stages.evaluation.stage import EvaluateSettings, evaluate_particles
    from tomostream.stages.tables.stage import conversion_from, read_scored, read_truth, truth_of

    conversion = replace(conversion_from([str(path) for path in tomograms], voxel_size), progress=PythonProgress())
    found, names = (picks, picks.tomograms()) if isinstance(picks, Particles) else read_scored(picks, conversion)
    known = truth_of(truth, names, "the truth") if isinstance(truth, Particles) else read_truth(truth, names, conversion)
    if voxel_size is None:  # what `pick` knew of the voxels serves both tables
        conversion = replace(conversion, spacings={**known.spacings, **found.spacings, **conversion.spacings})
    settings = EvaluateSettings(tolerance=Length.parse(tolerance, "tolerance"), species=species, matching=matching, beta=beta)
    return evaluate_particles(found, known, settings, names=names, conversion=conversion)


@speaks_python
def run(
    config: str | Path | RemotePath | dict[str, Any],
    *,
    stages: Sequence[str] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Evaluation | None:
    """Take a data set through the whole path, as `tomostream run` does; run it again to resume.

    Parameters
    ----------
    config
        A YAML file, or its values.
    stages
        Only these; none: all.
    overwrite
        Replace results that were made with other settings.
    progress
        Is told how far it is; None: only warnings are given, as Python's.

    Returns
    -------
    Evaluation or None
        Where there is truth.

    Raises
    ------
    TomostreamError
        Of the first stage that can't go on; `SomeFailedError` at the end if some tomograms failed and the rest are done.
    """
    from tomostream.config import configuration_from, load_configuration
    from tomostream.pipeline.execution import check_stages, run_project

    configuration = configuration_from(config, "configuration") if isinstance(config, dict) else load_configuration(config)
    return run_project(configuration, stages=check_stages(stages), overwrite=overwrite, progress=progress or PythonProgress())


@speaks_python
def read_particles(path: str | Path | RemotePath, *, format: str | None = None, **facts: Any) -> Particles:
    """Read a table of particles of any known format.

    Parameters
    ----------
    path
        A file, or a folder of them.
    format
        As the command line names it; None: from the ending.
    facts
        What a format may need to know, called as the options are: `voxel_size` (angstrom), `shape` (z, y, x), `tomograms` (stores that tell both),
        `tomogram`, `species` (names), `unbinned_pixel_size`, `binning`, `columns` and `unit` ("voxel" or "angstrom") of a table without
        header, `user` and `session` of a copick project.

    Raises
    ------
    InputError
        If the file is broken, or a fact is missing that the format needs.
    """
    from tomostream.formats.registry import read_table

    return read_table(path, format_name=format, conversion=_conversion(facts))


@speaks_python
def write_particles(path: str | Path | RemotePath, particles: Particles, *, format: str | None = None, **facts: Any) -> None:
    """Write a table of particles in any known format; a path that ends with `/` is a folder of one file a tomogram.

    Parameters
    ----------
    path
        The file or folder.
    particles
        What is written.
    format
        As the command line names it; None: from the ending.
    facts
        See `read_particles`; and `box_size`, as `"32vox"`.

    Raises
    ------
    InputError
        If the file can't be written, or a fact is missing that the format needs.
    """
    from tomostream.formats.registry import write_table

    write_table(path, particles, format_name=format, conversion=_conversion(facts))


_FACTS = {"voxel_size": "spacing", "unbinned_pixel_size": "unbinned_pixel", "box_size": "box"}  # as the options are called, and inside


def _conversion(facts: dict[str, Any]) -> Conversion:
    from tomostream.formats.registry import Conversion
    from tomostream.stages.tables.stage import conversion_from

    stores = [str(path) for path in facts.pop("tomograms", ())]
    named = {_FACTS.get(key, key): value for key, value in facts.items()}
    if unknown := sorted(set(named) - set(Conversion.__dataclass_fields__)):
        known = "voxel_size, shape, tomograms, tomogram, species, unbinned_pixel_size, binning, box_size, columns, unit, user, session"
        raise InputError(f"{unknown[0]}: no fact of that name; known are {known}")
    if isinstance(box := named.get("box"), str):
        named["box"] = Length.parse(box, "box_size")
    named.setdefault("progress", PythonProgress())
    return conversion_from(stores, named.pop("spacing", None), **named) if stores else Conversion(**named)


def _opened(source: Source) -> Tomogram:
    return source if isinstance(source, Tomogram) else open_tomogram(str(source))
