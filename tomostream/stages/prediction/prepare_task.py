"""What must be known about a whole tomogram before its first shard is scored?  Its statistics, and those that a model takes of it.

Both come from the tomogram's voxels alone; a worker finds them, if there are any.  The first are kept in the store that `convert` made; the
second belong to the model too, take a second or two, and are computed again when an interrupted prediction resumes: the same machine
finds the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tomostream.cluster import resident
from tomostream.stages.prediction.shard_task import ScorerLoad, check_machine
from tomostream.stages.voxel_statistics.stage import measure
from tomostream.tomogram import open_tomogram

if TYPE_CHECKING:
    from tomostream.inference.batch_statistics import Statistics
    from tomostream.normalisation import Normalisation


@dataclass(frozen=True, slots=True)
class PrepareTask:
    """A tomogram to prepare for a model."""

    name: str
    path: str
    memory: int  # bytes, of one process
    load: ScorerLoad
    environment: tuple[tuple[str, str], ...]  # of the machine that the scores are to come from; empty: of any


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a shard's task must know about its tomogram."""

    normalisation: Normalisation
    statistics: Statistics  # of `adaptive_statistics`; none for a model that does not adapt


def prepare_tomogram(task: PrepareTask) -> Prepared:
    """Measure a tomogram, unless that is done; and find what a model that adapts takes of it (`adaptive_statistics`).

    Raises
    ------
    MachineError
        If this machine is of another kind, or its GPU is missing.
    """
    from tomostream.strategies.adaptive_statistics import adapts, own_statistics

    model = resident(task.load).model
    tomogram = open_tomogram(task.path).at_level(model.settings.level)
    normalisation = measure(tomogram, memory=task.memory, workers=task.load.threads).of_kind(model.settings.normalisation)
    if normalisation.is_constant or not adapts(model):  # a constant one is refused by its name later
        return Prepared(normalisation, {})
    check_machine(task.name, task.load.device, task.environment)
    read = tomogram.with_normalisation(normalisation).read_standardised
    return Prepared(normalisation, own_statistics(model, read, tomogram.shape, device=task.load.device))
