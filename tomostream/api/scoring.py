"""Score tomograms with a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tomostream import defaults
from tomostream.cluster import Resources
from tomostream.errors import InputError
from tomostream.geometry import Triple
from tomostream.progress import Progress
from tomostream.python_words import PythonProgress, speaks_python
from tomostream.remote.places import Place, RemotePath, place
from tomostream.tomogram import Tomogram
from tomostream.units import parse_bytes, parse_shape

if TYPE_CHECKING:
    from tomostream.strategies.protocol import Model
from tomostream.api.sources import Source, checked_path


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
    grid: str = ...,
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
    grid: str = defaults.SCORE_GRID,
    block_size: int | Triple | None = None,
    voxel_size: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Any:
    """Score every voxel with a model: probabilities (or logits) on the tomogram's grid.

    Parameters
    ----------
    source
        A store (path, URL or tomogram), or a plain array (z, y, x) of raw voxels at full resolution.
    model
        Model folder, or the result of `load_model` (for a store, its folder is used).
    out
        Folder for the score map; needed for a store.
    precision
        `float32` or `bf16`.
    threads
        Threads of torch; None: all cores.
    memory
        Memory budget, for example `2GB`.
    logits, grid
        Logits instead of probabilities; `network`: a map is stored at the network's level, and interpolated on reading.
    block_size
        Edge of a block's core, voxels; None: chosen by the budget.
    voxel_size
        Angstrom; needed if the tomogram's store does not give it.
    overwrite
        Replace a score map that was made with other settings.
    progress
        Receives the progress; None: no progress, and warnings are Python warnings.

    Returns
    -------
    Path, list of Path or np.ndarray
        For a store, the score map (with several species, a list with one for each).  For an array, float32 (z, y, x), or
        (species, z, y, x) with several species.

    Raises
    ------
    TomostreamError
        If the model does not fit the tomogram, or no block fits the budget.
    """
    loaded = _loaded(model)
    if isinstance(source, str | Path | RemotePath | Tomogram):
        from tomostream.stages.prediction.stage import PredictSettings, predict_many
        from tomostream.store.naming import distinct_names

        if out is None:
            raise InputError("predict on a store needs out=FOLDER for the score map")
        settings = PredictSettings(
            precision=precision, logits=logits, grid=grid, block_size=parse_shape(block_size) if block_size else None, voxel_size=voxel_size
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


def _loaded(model: Any) -> Model:
    """The model itself, or that of a folder; anything else is refused."""
    from tomostream.strategies.loading import load_model
    from tomostream.strategies.model_folder import local_model
    from tomostream.strategies.protocol import Model

    return model if isinstance(model, Model) else load_model(local_model(place(checked_path(model, "model"))))
