"""Models whose weights are plain arrays by name, and those of them that are a network's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from tomostream.inference.batch_statistics import Sampling
from tomostream.learn.level_network import LevelNetwork
from tomostream.strategies.model_folder import ModelRecord, ModelSettings, TrainingSummary, settings_of, unpack_arrays
from tomostream.strategies.network_arrays import network_arrays, with_arrays
from tomostream.strategies.protocol import Model

N = TypeVar("N", bound=LevelNetwork)
M = TypeVar("M", bound="NetworkModel[Any]")


@dataclass(frozen=True)  # no slots: models keep what they have worked out
class ArrayModel(Model):
    """A model of arrays."""

    arrays: Mapping[str, np.ndarray]


A = TypeVar("A", bound=ArrayModel)


def unpack(model: type[A], settings: type[ModelSettings], record: ModelRecord, weights: bytes, folder: Path) -> A:
    """Return a model from what its folder holds.

    Parameters
    ----------
    settings
        Class of the model's settings.

    Raises
    ------
    InputError
        If the settings are broken, or the arrays can't be read.
    """
    return model(settings_of(record, settings, folder), record.summary, folder, unpack_arrays(weights, folder))


@dataclass(frozen=True)
class NetworkModel(ArrayModel, Generic[N]):
    """A network that is made from the settings; `arrays` are its weights and batch statistics."""

    @abstractmethod
    def make_network(self) -> N:
        """Return a network of the settings' shape, with any weights."""

    @property
    @abstractmethod
    def sampling(self) -> Sampling:
        """The crops that a tomogram's batch-norm statistics come from."""

    @classmethod
    def untrained(cls: type[M], settings: ModelSettings) -> M:
        """Return a model of these settings as it is before training."""
        empty = cls(settings, TrainingSummary(), Path(), {})
        return replace(empty, arrays=network_arrays(empty.make_network()))

    @cached_property
    def network(self) -> N:
        """The network, in evaluation mode."""
        return with_arrays(self.make_network(), self.arrays, self.folder)

    @property
    def sampled(self) -> tuple[N, Sampling]:
        """The network, and the crops that its batch-norm statistics come from."""
        return self.network, self.sampling

    def with_statistics(self: M, statistics: Mapping[str, np.ndarray]) -> M:
        """Return the model with other batch-norm statistics."""
        return replace(self, arrays={**self.arrays, **statistics})
