"""Adapt a model to each tomogram: batch-norm statistics, and the noise near the faces, as measured on that tomogram.

A model with batch-norm takes each tomogram's own statistics (`inference.batch_statistics`), unless it was trained with
`network.batch_statistics: training` or by a version of tomostream that lacked adaptation.  A model with `face_noise` trusts the noisy lines near the
faces less (`inference.face_noise`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tomostream.geometry import Triple
from tomostream.strategies.protocol import Model

if TYPE_CHECKING:
    from tomostream.inference.batch_statistics import Statistics
    from tomostream.inference.region_scoring import Reader


def adapts(model: Model) -> bool:
    """Return whether something must be measured on a tomogram before the model scores it."""
    return _has_own_batch_norm(model) or model.face_noise is not None


def _has_own_batch_norm(model: Model) -> bool:
    return model.settings.batch_statistics == "tomogram" and model.sampled is not None


def own_statistics(model: Model, read: Reader, shape: Triple, *, device: str) -> Statistics:
    """Measure on one tomogram what a model that adapts needs; `Model.with_statistics` takes it.

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
    from tomostream.inference.face_noise import face_gains
    from tomostream.learn.precision import resolve_device

    found: Statistics = {}
    if model.sampled is not None and _has_own_batch_norm(model):
        network, sampling = model.sampled
        found |= statistics_of(adapted(network, sampling.images(read, shape), device=resolve_device(device)))
    if model.face_noise is not None:
        found |= face_gains(read, shape, model.face_noise)
    return found


def adaptation_bytes(model: Model) -> int:
    """Return the projected memory of measuring what a tomogram needs, in bytes, without libraries; 0 if the model does not adapt."""
    from tomostream.inference.face_noise import PROJECTED_BYTES

    sampling = (
        model.sampled[1].projected_bytes(model.sampled[0].channels) if model.sampled is not None and _has_own_batch_norm(model) else 0
    )
    return max(sampling, PROJECTED_BYTES if model.face_noise is not None else 0)
