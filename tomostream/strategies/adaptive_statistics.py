"""Adaptive batch normalisation: score each tomogram with batch-norm statistics measured on that tomogram.

A model with batch-norm adapts, unless it was trained with `network.batch_statistics: training` or by a version of tomostream that lacked
adaptation.  `inference.batch_statistics` measures the statistics.
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
    """Measure the batch-norm statistics of a model on one tomogram.

    Parameters
    ----------
    model
        A model that adapts.
    read
        Function that reads a box of the standardised tomogram at the model's level.
    shape
        Shape of the tomogram at that level, in voxels.
    device
        `cpu`, `cuda` or `auto`.

    Raises
    ------
    InputError
        If the model is broken, or the device is not available.
    """
    from tomostream.inference.batch_statistics import adapted, statistics_of
    from tomostream.learn.precision import resolve_device

    if model.sampled is None:
        raise TypeError(f"a model of kind {model.kind} has no batch-norm")
    network, sampling = model.sampled
    return statistics_of(adapted(network, sampling.images(read, shape), device=resolve_device(device)))


def adaptation_bytes(model: Model) -> int:
    """Return the projected memory of measuring a tomogram's statistics, in bytes, without libraries; 0 if the model does not adapt."""
    if not adapts(model) or model.sampled is None:
        return 0
    network, sampling = model.sampled
    return sampling.projected_bytes(network.channels)
