"""The two interfaces of a strategy: `Strategy` checks, describes, trains and loads; `Model` scores, and says what that costs.

All stages know strategies and models by these two interfaces only.  A strategy is an object that its package names in the entry-point group
`tomostream.strategies`, under the name that `objective.name` gives; importing it must not import torch.  `tomostream.testing.StrategyTests` checks
whether one keeps its promises; docs/extending.md has a recipe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from tomostream.config.configuration import LearningSettings
from tomostream.config.fields import Part
from tomostream.config.sections import Species
from tomostream.fingerprint import Fingerprint
from tomostream.progress import Progress
from tomostream.strategies.model_folder import ModelRecord, ModelSettings, TrainingSummary
from tomostream.strategies.training_set import Training

if TYPE_CHECKING:
    from tomostream.inference.batch_statistics import Sampling
    from tomostream.inference.plan import PlanRequest, PredictionPlan
    from tomostream.inference.protocol import BlockScorer
    from tomostream.learn.level_network import LevelNetwork
    from tomostream.learn.processes import Processes
    from tomostream.tomogram import Tomogram


@runtime_checkable
class Strategy(Protocol):
    """A way of learning to find particles.

    Attributes
    ----------
    name
        What `objective.name` says.
    summary
        One line, for `tomostream strategies`.
    model_kind
        The kind in the records of its models; several strategies may share one.
    picker
        The picker of its scores, unless the user names another (`tomostream.pickers`).
    needs_prior
        Whether training needs the number of particles, and estimates it where it is not given.
    sections
        Its own sections of the configuration: key to class, a `Part` with a default for every field; keys must differ from all others'.
    defaults
        Its own defaults of the general sections: section to key to value.
    continues
        Optional: whether training can go on from a model (`train.start`); a strategy without the attribute cannot.
    orients
        Optional: whether its models know how particles are turned (`Model.orientations`).
    sizes_are_learnt
        Optional: whether training decides how large the model is; `untrained` is then as large as it may become.
    """

    name: str
    summary: str
    model_kind: str
    picker: str
    needs_prior: bool
    sections: Mapping[str, type[Part]]
    defaults: Mapping[str, Mapping[str, Any]]

    def check(self, settings: LearningSettings) -> None:
        """Refuse settings that the strategy can't work with; reads no file.

        Raises
        ------
        InputError
            With the key of the configuration, the value found and what is allowed.
        """

    def reading_level(self, species: Iterable[Species], spacing: float, level: int | str) -> int:
        """Return the pyramid level that is read.

        Parameters
        ----------
        spacing
            Of level 0, angstrom.
        level
            What `network.level` says: a level, or `auto`.
        """

    def step_bytes(self, settings: LearningSettings) -> int | None:
        """Project the peak of a training step on this machine, without libraries and the buffer of voxels; None: no steps, no buffer."""

    def describe(self, settings: LearningSettings, level: int) -> str:
        """Describe what training will do, for the dry run: one line."""

    def fingerprint(self, settings: LearningSettings) -> Fingerprint:
        """Return what else of the configuration decides the model, apart from species, objective and clicks; plain JSON values.

        Raises
        ------
        InputError
            If a file that it names is not there.
        """

    def train(self, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
        """Train and write the model folder with `model_folder.write_folder`; `folder` exists, and is None in all processes but the first.

        A training of steps leaves `metrics.csv` (`learn.training_files`) too; one without steps needs none.  The same training must give the same
        bytes, also after it was killed.

        Raises
        ------
        TomostreamError
            If it can't be trained from this.
        """

    def untrained(self, settings: LearningSettings, spacing: float) -> Model:
        """Return a model that plans as the trained one will: of the same settings and shapes, with any values.  Reads no tomogram.

        Parameters
        ----------
        spacing
            Of level 0, angstrom.
        """

    def load(self, record: ModelRecord, weights: bytes, folder: Path) -> Model:
        """Load a trained model: what `train` wrote.

        Raises
        ------
        InputError
            If record and weights don't fit each other.
        """


@dataclass(frozen=True)  # no slots: models keep what they have worked out
class Model(ABC):
    """A trained model.

    Parameters
    ----------
    settings
        `ModelSettings`, or the strategy's own class derived from it.
    summary
        What training reported.
    folder
        That it was read from.
    """

    settings: ModelSettings
    summary: TrainingSummary
    folder: Path

    @property
    @abstractmethod
    def kind(self) -> str:
        """The kind in its record; see `Strategy.model_kind`."""

    @property
    @abstractmethod
    def picker(self) -> str:
        """The picker of its scores, unless the user names another."""

    @property
    def uses_gpu(self) -> bool:
        """Whether it can score on a GPU.

        A model that can't must say so: where it is true, `auto` becomes `cuda` on a machine with a GPU, and `scorer` gets that.
        """
        return True

    @abstractmethod
    def scorer(self, *, device: str, precision: str, threads: int | None, gpu_memory: int | None = None) -> BlockScorer:
        """Return the model, ready to score blocks.

        Parameters
        ----------
        device
            `cpu`, `cuda`, or `auto` (a GPU if there is one).
        precision
            `float32` or `bf16`.
        threads
            Of numerical libraries, for all of this process; None leaves them as they are.
        gpu_memory
            Most that this process takes of the GPU's memory, bytes; None: plans for four fifths of it.

        Raises
        ------
        InputError
            If device or precision are unknown, not there or not for this model, or its arrays don't fit its settings.
        """

    def plan(self, request: PlanRequest, *, precision: str) -> PredictionPlan:
        """Plan the blocks in which a volume is scored, without batch-norm statistics (`strategies.loading.plan_model` adds them).

        The scorer says what a block reads and costs; a model that knows its cost as a formula may plan by that.

        Parameters
        ----------
        request
            The volume and the budget.
        precision
            See `scorer`.

        Raises
        ------
        BudgetError
            If no block fits the memory, or the given one does not.
        """
        from tomostream.inference.block_search import plan_scorer

        return plan_scorer(request, self.scorer(device="cpu", precision=precision, threads=None))

    def orientations(self, tomogram: Tomogram, places: np.ndarray, species: str, *, memory: int) -> np.ndarray:
        """Return how the particles at places are turned; only for a model whose strategy `orients`.

        Parameters
        ----------
        tomogram
            With its voxel statistics.
        places
            Float64 (n, 3), z y x, voxels of the full resolution.
        species
            Of all of them.
        memory
            Budget, bytes.

        Returns
        -------
        np.ndarray
            Float64 (n, 3, 3) on x, y, z, from the reference's axes to the tomogram's.
        """
        raise TypeError(f"a model of {self.kind} knows no orientations")

    @property
    def sampled(self) -> tuple[LevelNetwork, Sampling] | None:
        """The network, and the sampling of crops for per-tomogram batch-norm statistics; None: no batch-norm to adapt."""
        return None

    def with_statistics(self, statistics: Mapping[str, np.ndarray]) -> Model:
        """Return the model with other batch-norm statistics; only for one with `sampled`."""
        raise TypeError(f"a model of {self.kind} has no batch-norm")
