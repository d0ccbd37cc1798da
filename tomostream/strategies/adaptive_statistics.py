"""Adaptive batch normalisation of a model: whether it uses per-tomogram statistics, how they are measured, and what that costs.

A model with a network adapts, unless it was trained to keep the training's statistics (`network.batch_statistics` of the configuration) or
by a version that knew no other.  See `inference.batch_statistics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tomostream.geometry import Triple
from tomostream.strategies.protocol import Model

if TYPE_CHECKING:
    from tomostream.inference.batch_statistics import Statistics
    from tomostream.inference.region_scoring import Reader


def adapts(model: Model) -> bool:
    """Return whether the model is scored with per-tomogram batch-norm statistics."""
    return model.settings.batch_statistics == "tomogram" and model.sampled is not None


def own_statistics(model: Model, read: Reader, shape: Triple, *, device: str) -> Statistics:
    """Return the batch-norm statistics of a tomogram.

    Parameters
    ----------
    model
        One that adapts.
    read
        Reads boxes of the tomogram, standardised, at the model's level.
    shape
        Of the tomogram at that level, voxels.
    device
        `cpu`, `cuda` or `auto`.

    Raises
    ------
    InputError
        If the model is broken, or the device not there.
    """
    from tomostream.inference.batch_statistics import adapted, statistics_of
    from tomostream.learn.precision import resolve_device

    if model.sampled is None:
        raise TypeError(f"a model of {model.kind} has no batch-norm")
    network, sampling = model.sampled
    return statistics_of(adapted(network, sampling.images(read, shape), device=resolve_device(device)))


def adaptation_bytes(model: Model) -> int:
    """Projected memory of finding a tomogram's statistics, libraries apart; 0 for a model that keeps its own."""
    if not adapts(model) or model.sampled is None:
        return 0
    network, sampling = model.sampled
    return sampling.projected_bytes(network.channels)
