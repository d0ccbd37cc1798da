"""Load a model folder of any strategy, and plan the blocks in which a model scores a volume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.catalogue import STRATEGIES, installed
from tomostream.errors import BudgetError, InputError
from tomostream.geometry import Triple
from tomostream.inference.plan import PlanRequest, PredictionPlan
from tomostream.strategies.adaptive_statistics import adaptation_bytes
from tomostream.strategies.catalogued import strategy_named
from tomostream.strategies.model_folder import read_folder
from tomostream.strategies.protocol import Model, Strategy
from tomostream.units import format_bytes


def load_model(folder: str | Path) -> Model:
    """Read a model folder of any strategy.

    Raises
    ------
    InputError
        If it is missing, half-written, changed, or no model of tomostream.
    """
    folder = Path(folder)
    record, weights = read_folder(folder)
    return _loader(record.strategy, folder).load(record, weights, folder)


def _loader(kind: str, folder: Path) -> Strategy:
    """Return the first installed strategy whose models are of this kind."""
    known: set[str] = set()
    for name in installed(STRATEGIES):
        try:
            strategy = strategy_named(name)
        except InputError:
            continue  # a broken plug-in, of another kind as far as anybody can tell
        if strategy.model_kind == kind:
            return strategy
        known.add(strategy.model_kind)
    raise InputError(f"model folder {folder} has the strategy {kind!r}; installed are {', '.join(sorted(known))}")


def plan_model(
    model: Model, volume: Triple, *, precision: str, memory: int, block_size: Triple | None, name: str, max_edge: int | None = None
) -> PredictionPlan:
    """Choose the blocks in which a model scores a volume; see `Model.plan`.

    Raises
    ------
    BudgetError
        If no block fits the memory, or the given one does not; or the network's own statistics of a tomogram don't.
    """
    adapting = LIBRARIES_BYTES + TORCH_BYTES + adaptation_bytes(model)
    if adapting > memory:
        raise BudgetError(
            f"the batch statistics of {name} need {format_bytes(adapting)} but the memory budget is {format_bytes(memory)}; raise --memory to that, or "
            "train with fewer network.channels or network.batch_statistics: training"
        )
    level = model.settings.level
    request = PlanRequest(volume=volume, level=level, memory=memory, block_size=block_size, name=name, max_edge=max_edge)
    plan = model.plan(request, precision=precision)
    return replace(plan, block_bytes=max(plan.block_bytes, adapting))
