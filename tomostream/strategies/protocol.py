"""The two interfaces of a strategy: `Strategy` checks settings, trains and loads; `Model` scores and projects the memory that scoring takes.

The stages use strategies and models through these two interfaces only.  A package registers a strategy object in the entry-point group
`tomostream.strategies`; the name of the entry point is the value of `objective.name` that selects it.  Importing the strategy must not import
torch.  `tomostream.testing.StrategyTests` checks that a strategy follows the interface; docs/extending.md explains how to write one.
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
    from tomostream.inference.face_noise import FaceNoise
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
        The value of `objective.name` that selects the strategy.
    summary
        One line of description, for `tomostream strategies`.
    model_kind
        The kind written in the records of its models; several strategies may share one.
    picker
        Name of the picker (`tomostream.pickers`) used for its scores, unless the user names another.
    needs_prior
        Whether training needs the number of particles; it is estimated where the configuration does not give it.
    sections
        The strategy's own sections of the configuration, as key: class.  The class is a `Part` with a default for every field; no other section
        may have the same key.
    defaults
        The strategy's own defaults for the general sections, as section: key: value.
    continues
        Optional: whether training can start from an existing model (`train.start`).  False if the attribute is missing.
    learns_rejected
        Optional: whether training learns from places that are labelled 0 (`Labelled.rejected`).  False if the attribute is missing.
    orients
        Optional: whether its models determine the orientations of particles (`Model.orientations`).  False if the attribute is missing.
    sizes_are_learnt
        Optional: whether training decides the size of the model.  If so, `untrained` returns a model of the largest possible size.
    """

    name: str
    summary: str
    model_kind: str
    picker: str
    needs_prior: bool
    sections: Mapping[str, type[Part]]
    defaults: Mapping[str, Mapping[str, Any]]

    def check(self, settings: LearningSettings) -> None:
        """Check the settings without reading any file.

        Raises
        ------
        InputError
            If the strategy can't work with a setting.  The message names the key of the configuration, the value found and the values allowed.
        """

    def reading_level(self, species: Iterable[Species], spacing: float, level: int | str) -> int:
        """Return the pyramid level that training and prediction read.

        Parameters
        ----------
        spacing
            Voxel spacing of level 0, in angstrom.
        level
            The value of `network.level`: a level, or `auto`.
        """

    def step_bytes(self, settings: LearningSettings) -> int | None:
        """Return the projected peak memory of a training step on this machine, in bytes.

        The libraries and the buffer of voxels are not included.  None means that training takes no steps and needs no buffer.
        """

    def describe(self, settings: LearningSettings, level: int) -> str:
        """Describe in one line what training will do, for the dry run."""

    def fingerprint(self, settings: LearningSettings) -> Fingerprint:
        """Return the settings that decide the trained model, except species, objective and clicks, as plain JSON values.

        Raises
        ------
        InputError
            If a file that the settings name does not exist.
        """

    def train(self, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
        """Train and write the model folder with `model_folder.write_folder`.

        Training in steps also writes `metrics.csv` (`learn.training_files`).  The same inputs must give the same bytes, even if training was
        killed and resumed.

        Parameters
        ----------
        training
            Settings and labelled tomograms.
        folder
            An existing folder for the model; None in all processes but the first.
        progress
            Receives log lines and progress.
        processes
            The processes that train together.

        Raises
        ------
        TomostreamError
            If training is impossible with these inputs.
        """

    def untrained(self, settings: LearningSettings, spacing: float) -> Model:
        """Return a model for planning: same settings and array shapes as the trained model, arbitrary values.  Reads no tomogram.

        Parameters
        ----------
        spacing
            Voxel spacing of level 0, in angstrom.
        """

    def load(self, record: ModelRecord, weights: bytes, folder: Path) -> Model:
        """Load a model that `train` wrote.

        Raises
        ------
        InputError
            If the record and the weights don't belong together.
        """


@runtime_checkable
class LearnsFromClicks(Protocol):
    """What a `Strategy` that takes no training steps may have too: the memory that it needs instead."""

    def clicks_bytes(self, settings: LearningSettings) -> int:
        """Return the projected peak memory of learning from the clicks on this machine, in bytes, without the libraries."""


@dataclass(frozen=True)  # no slots: cached properties are stored on the instance
class Model(ABC):
    """A trained model.

    Parameters
    ----------
    settings
        `ModelSettings`, or the strategy's own subclass of it.
    summary
        What training reported.
    folder
        Folder that the model was read from.
    """

    settings: ModelSettings
    summary: TrainingSummary
    folder: Path

    @property
    @abstractmethod
    def kind(self) -> str:
        """The kind written in its record; see `Strategy.model_kind`."""

    @property
    @abstractmethod
    def picker(self) -> str:
        """Name of the picker used for its scores, unless the user names another."""

    @property
    def uses_gpu(self) -> bool:
        """Whether the model can score on a GPU.

        A model that can't must override this: otherwise `auto` resolves to `cuda` on a machine with a GPU, and `scorer` is called with it.
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
            Number of threads of the numerical libraries in this process; None leaves it unchanged.
        gpu_memory
            Limit on the GPU memory of this process, in bytes; None: plan for four fifths of it.

        Raises
        ------
        InputError
            If the device or precision is unknown, unavailable or not supported by this model, or if the arrays don't fit the settings.
        """

    def plan(self, request: PlanRequest, *, precision: str) -> PredictionPlan:
        """Plan the blocks in which a volume is scored.

        The default asks the scorer what each block reads and how much memory it takes.  A model whose memory follows a formula may override this.
        The memory for measuring batch-norm statistics is added by `strategies.loading.plan_model`.

        Parameters
        ----------
        request
            The volume and the memory budget.
        precision
            As in `scorer`.

        Raises
        ------
        BudgetError
            If the requested block, or every possible block, exceeds the memory budget.
        """
        from tomostream.inference.block_search import plan_scorer

        return plan_scorer(request, self.scorer(device="cpu", precision=precision, threads=None))

    def orientations(self, tomogram: Tomogram, places: np.ndarray, species: str, *, memory: int) -> np.ndarray:
        """Return the orientations of particles at given positions; only for models of a strategy that `orients`.

        Parameters
        ----------
        tomogram
            Tomogram with its voxel statistics attached.
        places
            Float64 (n, 3) positions z y x, in voxels of level 0.
        species
            Name of the species of all these particles.
        memory
            Memory budget, in bytes.

        Returns
        -------
        np.ndarray
            Float64 (n, 3, 3) rotation matrices that act on (x, y, z) and take the reference's axes to the tomogram's.

        Raises
        ------
        TypeError
            If the model does not determine orientations.
        """
        raise TypeError(f"a model of kind {self.kind} does not determine orientations")

    @property
    def sampled(self) -> tuple[LevelNetwork, Sampling] | None:
        """The network, and the crops from which the batch-norm statistics of a tomogram are measured; None if it has no batch-norm."""
        return None

    @property
    def face_noise(self) -> FaceNoise | None:
        """How noise near the faces of a tomogram is treated; None: like the rest of it."""
        return None

    def with_statistics(self, statistics: Mapping[str, np.ndarray]) -> Model:
        """Return a copy of the model for one tomogram: with its batch-norm statistics, and the gains near its faces, as far as they were measured.

        Called only if `sampled` or `face_noise` is not None.
        """
        raise TypeError(f"a model of kind {self.kind} does not adapt to tomograms")
