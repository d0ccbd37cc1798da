"""What can this model folder do?  Load it, whatever its strategy; open its scorer; plan its blocks.

`unet` streams planes (`strategies.unet.scorer`) and has a planner of its own; joined by a matched filter, and for every other strategy, it is a
`BlockScorer`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES, network_cost
from tomostream.errors import BudgetError, InputError
from tomostream.geometry import Triple
from tomostream.inference.block_search import plan_scorer
from tomostream.inference.plan import MAX_SHARD_VOX, PredictionPlan, plan_prediction
from tomostream.inference.protocol import BlockScorer
from tomostream.inference.region_scoring import AnyScorer
from tomostream.strategies.batch_statistics import adaptation_bytes
from tomostream.strategies.deepetpicker.model import patch_scorer
from tomostream.strategies.matched_filter.model import matched_scorer
from tomostream.strategies.model_folder import AnyModel, StrategyModel, load_strategy_model
from tomostream.strategies.slices2d.model import slice_scorer
from tomostream.strategies.unet.fusion import FusedScorer
from tomostream.strategies.unet.model import Model, read_folder
from tomostream.strategies.unet.model import load_model as load_unet
from tomostream.strategies.unet.scorer import Scorer
from tomostream.units import format_bytes

# model, device, precision, threads
_SCORERS: dict[str, Callable[[StrategyModel, str, str, int | None], BlockScorer]] = {
    "average": matched_scorer,
    "deepetpicker": patch_scorer,
    "slices2d": slice_scorer,
    "template": matched_scorer,
}


def load_model(folder: str | Path) -> AnyModel:
    """Read a model folder of any strategy.

    Raises
    ------
    InputError
        If it is missing, half-written, changed, or no model of tomostream.
    """
    folder = Path(folder)
    content, _ = read_folder(folder)
    strategy = content.get("strategy", "unet")
    if strategy == "unet":
        return load_unet(folder)
    if strategy not in _SCORERS:
        raise InputError(f"model folder {folder} has the strategy {strategy!r}; this version knows unet, {', '.join(sorted(_SCORERS))}")
    return load_strategy_model(folder)


def strategy_of(model: AnyModel) -> str:
    """The name of the strategy that a model belongs to."""
    return "unet" if isinstance(model, Model) else model.strategy


def open_scorer(model: AnyModel, *, device: str, precision: str, threads: int | None, gpu_memory: int | None = None) -> AnyScorer:
    """Make a model ready to score blocks.

    Parameters
    ----------
    model
        Any.
    device, precision, threads, gpu_memory
        See `strategies.unet.scorer.Scorer`; strategies without a network use the threads only.

    Raises
    ------
    InputError
        If device or precision are unknown or not there, or the model's arrays don't fit its settings.
    """
    if isinstance(model, Model):
        network = Scorer(model.deployed, device=device, precision=precision, threads=threads, gpu_memory=gpu_memory)
        if model.settings.matched is None:
            return network
        cost = network_cost(model.settings.channels, species=network.species, precision=precision)
        return FusedScorer(network, cost, model.settings.matched, model.profiles, threads=threads)
    return _SCORERS[model.strategy](model, device, precision, threads)


def plan_model(
    model: AnyModel,
    volume: Triple,
    *,
    precision: str,
    memory: int,
    block_size: Triple | None,
    name: str,
    max_edge: int = MAX_SHARD_VOX,
) -> PredictionPlan:
    """Choose the blocks in which a model scores a volume.

    Parameters
    ----------
    model
        Any.
    volume
        Shape of level 0, voxels.
    precision
        Of the arithmetic.
    memory
        Budget of one process, libraries included, bytes.
    block_size
        Level-0 edges of a block's core; None: chosen.
    name
        Of the tomogram, for messages.
    max_edge
        Largest edge of a chosen shard, voxels.

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
    plan = _plan_blocks(model, volume, precision=precision, memory=memory, block_size=block_size, name=name, max_edge=max_edge)
    return replace(plan, block_bytes=max(plan.block_bytes, adapting))


def _plan_blocks(
    model: AnyModel, volume: Triple, *, precision: str, memory: int, block_size: Triple | None, name: str, max_edge: int
) -> PredictionPlan:
    level = model.settings.level
    if isinstance(model, Model) and model.settings.matched is None:
        return plan_prediction(
            volume,
            level=level,
            network=model.network,
            channels=model.settings.channels,
            precision=precision,
            species=len(model.settings.species),
            memory=memory,
            block_size=block_size,
            name=name,
            max_edge=max_edge,
        )
    scorer = open_scorer(model, device="cpu", precision=precision, threads=None)
    if isinstance(scorer, Scorer):
        raise TypeError("a streamed network has a planner of its own")
    return plan_scorer(volume, level=level, scorer=scorer, memory=memory, block_size=block_size, name=name, max_edge=max_edge)
