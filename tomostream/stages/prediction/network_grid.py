"""`predict.grid: network`: score maps hold the logits at the level that the network reads, an eighth of the voxels at level 1.

On reading they are interpolated to the tomogram's grid (`tomostream.coarse_scores`), so every stage sees the map that would have been written there,
bit for bit.  A model that reads level 0 has no coarser level: its maps are written as ever.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tomostream import defaults
from tomostream.geometry import Triple, triple
from tomostream.stages.prediction.shard_task import PredictSettings
from tomostream.store.edges import coarser_edges
from tomostream.store.omezarr import StoreSpec
from tomostream.store.records import GRID_FORMAT
from tomostream.store.specification import StoreLayout

if TYPE_CHECKING:
    from tomostream.inference.plan import PredictionPlan
    from tomostream.strategies.protocol import Model


def plan_on_grid(model: Model, volume: Triple, settings: PredictSettings, *, memory: int, name: str) -> PredictionPlan:
    """Plan the blocks of a score map (`plan_model`), with shards that are whole at the network's level where the map is stored there.

    Raises
    ------
    BudgetError
        If no block fits the memory.
    """
    from tomostream.strategies.loading import plan_model

    plan = plan_model(model, volume, precision=settings.precision, memory=memory, block_size=settings.block_size, name=name)
    step = 2**plan.level
    if not settings.is_coarse(plan.level) or all(s % step == 0 or s >= n for s, n in zip(plan.shard, volume, strict=True)):
        return plan
    chunk = triple([-(-edge // step) * step for edge in plan.chunk])
    return plan_model(model, volume, precision=settings.precision, memory=memory, block_size=settings.block_size, name=name, chunk=chunk)


def map_bytes(plan: PredictionPlan, settings: PredictSettings) -> int:
    """Return what a score map of one species takes on the disk, before it is compressed."""
    if not settings.is_coarse(plan.level):
        return plan.stored_voxels * np.dtype(settings.score_dtype).itemsize
    spec = StoreSpec("", plan.volume, np.dtype(np.float32), 1.0, plan.chunk, plan.shard, defaults.CODEC, 1)
    return StoreLayout.plan(at_network_level(spec, plan, settings)).stored_bytes


def at_network_level(spec: StoreSpec, plan: PredictionPlan, settings: PredictSettings) -> StoreSpec:
    """Return the store of a plan's logits at its level, given that of its scores on the tomogram's grid."""
    from tomostream.inference.level_scoring import grid_of

    grid, box = grid_of(plan), settings.box
    edges = [coarser_edges(n, shard, plan.level) for n, shard in zip(plan.volume, plan.shard, strict=True)]
    record = {
        "level": plan.level, "volume": list(plan.volume), "chunk": list(plan.chunk), "shard": list(plan.shard), "core": list(plan.core),
        **({} if box is None else {"box": [list(box.start), list(box.stop)]}),
    }  # fmt: skip
    return replace(
        spec,
        shape=plan.level_shape,
        dtype=np.dtype(np.float32),
        spacing=spec.spacing * 2**plan.level,
        corner=spec.spacing * (2**plan.level - 1) / 2,
        chunk=triple([chunk for chunk, _ in edges]),
        shard=triple([shard for _, shard in edges]),
        seams=grid.seam_values,
        attributes={**spec.attributes, "format": GRID_FORMAT, "grid": record},
    )
