"""Base classes for models whose weights are named arrays: `ArrayModel`, and `NetworkModel` for arrays that fill a network."""

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


@dataclass(frozen=True)  # no slots: cached properties are stored on the instance
class ArrayModel(Model):
    """A model whose weights are named arrays."""

    arrays: Mapping[str, np.ndarray]


A = TypeVar("A", bound=ArrayModel)


def unpack(model: type[A], settings: type[ModelSettings], record: ModelRecord, weights: bytes, folder: Path) -> A:
    """Build a model from the content of its folder.

    Parameters
    ----------
    model
        Class of the model.
    settings
        Class of the model's settings.
    record, weights
        The content of the folder, as `model_folder.read_folder` returns it.
    folder
        For messages.

    Raises
    ------
    InputError
        If the settings are invalid, or the arrays can't be read.
    """
    return model(settings_of(record, settings, folder), record.summary, folder, unpack_arrays(weights, folder))


@dataclass(frozen=True)
class NetworkModel(ArrayModel, Generic[N]):
    """A model that is a network: `make_network` builds it from the settings, and `arrays` holds its weights and batch-norm statistics."""

    @abstractmethod
    def make_network(self) -> N:
        """Build a network of the shape that the settings give; its weights don't matter."""

    @property
    @abstractmethod
    def sampling(self) -> Sampling:
        """The crops from which the batch-norm statistics of a tomogram are measured."""

    @classmethod
    def untrained(cls: type[M], settings: ModelSettings) -> M:
        """Return a model with these settings and the initial weights."""
        empty = cls(settings, TrainingSummary(), Path(), {})
        return replace(empty, arrays=network_arrays(empty.make_network()))

    @cached_property
    def network(self) -> N:
        """The network, in evaluation mode."""
        return with_arrays(self.make_network(), self.arrays, self.folder)

    @property
    def sampled(self) -> tuple[N, Sampling]:
        """The network, and the crops from which the batch-norm statistics of a tomogram are measured."""
        return self.network, self.sampling

    def with_statistics(self: M, statistics: Mapping[str, np.ndarray]) -> M:
        """Return a copy of the model with other batch-norm statistics."""
        return replace(self, arrays={**self.arrays, **statistics})
