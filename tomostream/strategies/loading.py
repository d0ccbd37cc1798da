"""Load the model of any strategy from its folder, and plan the blocks in which a model scores a volume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.catalogue import STRATEGIES, installed
from tomostream.errors import BudgetError, InputError
from tomostream.geometry import Triple
from tomostream.inference.plan import PlanRequest, PredictionPlan
from tomostream.strategies import several_models
from tomostream.strategies.adaptive_statistics import adaptation_bytes
from tomostream.strategies.catalogued import strategy_named
from tomostream.strategies.model_folder import ModelRecord, read_folder
from tomostream.strategies.protocol import Model, Strategy
from tomostream.units import format_bytes


def load_model(folder: str | Path) -> Model:
    """Load a model from its folder.

    Raises
    ------
    InputError
        If the folder is missing, half-written or modified, or holds no model of tomostream.
    """
    if not isinstance(folder, str | Path):
        raise InputError(f"a model folder must be a path (text or pathlib.Path), found {type(folder).__name__}")
    folder = Path(folder)
    record, weights = read_folder(folder)
    return _load(record, weights, folder)


def _load(record: ModelRecord, weights: bytes, folder: Path) -> Model:
    if record.strategy == several_models.KIND:
        return several_models.unpack(record, weights, folder, _load)
    return _loader(record.strategy, folder).load(record, weights, folder)


def _loader(kind: str, folder: Path) -> Strategy:
    """Return an installed strategy that loads models of this kind."""
    known: set[str] = set()
    for name in installed(STRATEGIES):
        try:
            strategy = strategy_named(name)
        except InputError:
            continue  # a broken plug-in must not prevent loading a model of another strategy
        if strategy.model_kind == kind:
            return strategy
        known.add(strategy.model_kind)
    raise InputError(f"model folder {folder} holds a model of kind {kind!r}; the installed kinds are {', '.join(sorted(known))}")


def plan_model(
    model: Model,
    volume: Triple,
    *,
    precision: str,
    memory: int,
    block_size: Triple | None,
    name: str,
    max_edge: int | None = None,
    chunk: Triple | None = None,
) -> PredictionPlan:
    """Choose the blocks in which a model scores a volume, and include the memory that adaptation takes.

    Parameters
    ----------
    volume
        Shape of the volume at level 0, in voxels.
    precision
        `float32` or `bf16`.
    memory
        Memory budget of one process, in bytes.
    block_size
        Edges of the core that the user asks for, in voxels of level 0; None: choose.
    name
        Name of the tomogram, for messages.
    max_edge, chunk
        See `inference.plan.PlanRequest`.

    Raises
    ------
    BudgetError
        If the requested block, or every possible block, exceeds the memory budget, or if measuring the batch-norm statistics does.
    """
    adapting = LIBRARIES_BYTES + TORCH_BYTES + adaptation_bytes(model)
    if adapting > memory:
        raise BudgetError(
            f"measuring the batch-norm statistics of {name} needs {format_bytes(adapting)} but the memory budget is {format_bytes(memory)}; raise --memory to that, or "
            "train with fewer network.channels or network.batch_statistics: training"
        )
    level = model.settings.level
    request = PlanRequest(volume=volume, level=level, memory=memory, block_size=block_size, name=name, max_edge=max_edge, chunk=chunk)
    plan = model.plan(request, precision=precision)
    return replace(plan, block_bytes=max(plan.block_bytes, adapting))
