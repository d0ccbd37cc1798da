"""The stages on plain arrays (numpy, zarr or dask), for the Python functions when no store is involved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.geometry import triple
from tomostream.picking.pickers import picker
from tomostream.picking.protocol import Execution, PickRequest, Source
from tomostream.progress import Progress

if TYPE_CHECKING:
    from tomostream.strategies.protocol import Model


def pick_plain(array: Any, request: PickRequest, execution: Execution) -> tuple[np.ndarray, np.ndarray]:
    """Pick from a numpy, zarr or dask array (z, y, x), block by block; returns voxel indices int64 (n, 3) and scores float64 (n,).

    Raises
    ------
    InputError
        If the array has not three dimensions, or neither count nor threshold is given.
    """
    source = Source.of(array)
    if request.how_many is None:
        raise InputError(
            "the number of picks is not set: give count=N (the best N), threshold=T (all above T) or expected=N (about N, as the scores suggest)"
        )
    picks = picker(defaults.PICKER).pick(source, request, execution, Progress())
    return picks.index_zyx, picks.score


def predict_array(array: np.ndarray, model: Model, *, precision: str, threads: int | None, memory: int, logits: bool) -> np.ndarray:
    """Score a raw volume in memory like a stored one: float32 (species, z, y, x) on its grid.

    The volume is brought to the model's pyramid level by the mean pyramid's arithmetic, and normalised by its own statistics there, batch-norm's too where the model adapts.

    Raises
    ------
    InputError
        If it has not three dimensions, or is constant.
    BudgetError
        If no block fits the memory.
    """
    from tomostream.graph.moments import statistics_of
    from tomostream.inference.region_scoring import score_volume
    from tomostream.store.pyramid import mean_pooled, rounded_to
    from tomostream.strategies.adaptive_statistics import adapts, own_statistics
    from tomostream.strategies.loading import plan_model
    from tomostream.strategies.several_models import parts_of

    parts = parts_of(model)
    if len(parts) > 1:
        return np.concatenate(
            [predict_array(array, part, precision=precision, threads=threads, memory=memory, logits=logits) for part in parts]
        )
    if array.ndim != 3:
        raise InputError(f"predicting needs a volume of three dimensions (z, y, x), found shape {array.shape}")
    coarse = array
    for _ in range(model.settings.level):
        coarse = rounded_to(mean_pooled(coarse), array.dtype)
    normalised = statistics_of(coarse, clip_sigma=defaults.CLIP_SIGMA).of_kind(model.settings.normalisation).apply(coarse)
    shape = triple(array.shape)
    plan = plan_model(model, shape, precision=precision, memory=memory, block_size=None, name="the array", max_edge=2 * max(shape))
    scorer = model.scorer(device=defaults.DEVICE, precision=precision, threads=threads)
    if adapts(model):
        statistics = own_statistics(model, lambda box: normalised[box.slices], triple(normalised.shape), device=defaults.DEVICE)
        scorer = model.with_statistics(statistics).scorer(device=defaults.DEVICE, precision=precision, threads=threads)
    return score_volume(normalised, plan, scorer, as_logits=logits)
