"""Train `slices2d` with the shared training loop (`strategies.network_training`).

1. The crops are slabs of slices, some around clicks and some anywhere (`slabs`).  Slices near a click have a box; everything else is background.
2. The objective is the single-shot loss (`single_shot`).
3. After each epoch the validation tomograms are scored slice by slice and boxes are traced through z; the best epoch is kept.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from tomostream import defaults
from tomostream.budget import LIBRARIES_BYTES, TORCH_BYTES
from tomostream.errors import BudgetError
from tomostream.learn.precision import resolve_device, resolve_precision
from tomostream.learn.processes import Processes
from tomostream.picking.traced import PICKER as TRACE
from tomostream.progress import Progress
from tomostream.strategies.network_training import Crops, Parts, drawing, scores_by, train_network_model
from tomostream.strategies.slices2d.cost import slab_step_bytes
from tomostream.strategies.slices2d.detector import SliceDetector
from tomostream.strategies.slices2d.model import KIND, SliceSettings, slice_sampling
from tomostream.strategies.slices2d.scoring import SliceScorer
from tomostream.strategies.slices2d.single_shot import SingleShot
from tomostream.strategies.slices2d.slabs import SlabDataset, slab_layout
from tomostream.strategies.trained_settings import settings_from
from tomostream.strategies.training_set import Labelled, Training
from tomostream.strategies.validation import picks_by
from tomostream.units import format_bytes


def train_slices(training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
    """Train the detector and write the model folder; parameters as in `strategies.protocol.Strategy.train`.

    Raises
    ------
    BudgetError
        If a step exceeds the memory budget.
    TomostreamError
        If training fails.
    """
    settings = training.settings
    radii, given = training.radii_vox, training.given_label_radius_vox
    half_heights = [defaults.SLICES2D_LABEL_HEIGHT * radius if given is None else given for radius in radii]
    network = SliceDetector(settings.network.channels, len(settings.species), seed=settings.train.seed)
    _refuse_high_slabs(training, half_heights, network)
    objective = SingleShot(
        network.stride,
        tuple(2 * radius for radius in radii),
        object_weight=defaults.SLICES2D_OBJECT_WEIGHT,
        background_weight=defaults.SLICES2D_BACKGROUND_WEIGHT,
        centre_weight=defaults.SLICES2D_CENTRE_WEIGHT,
        class_weight=defaults.SLICES2D_CLASS_WEIGHT,
    )

    def scorer(candidate: SliceDetector, device: str, precision: str) -> SliceScorer:
        return SliceScorer(candidate, radius=radii, device=device, precision=precision, threads=None)

    parts = Parts(
        network=network,
        crops=lambda labelled, own: _slabs(training, labelled, half_heights, stride=network.stride, processes=own),
        objective=lambda together: replace(objective, processes=together),
        sampling=slice_sampling(network),
        recalibration_crops=defaults.RECALIBRATION_CROPS,
        score=scores_by(scorer),
        pick=picks_by(TRACE),
        title=f"training {KIND}",
        label_text=f"cells of {network.stride} voxels, ",
        label_radius_vox=half_heights,
    )
    train_network_model(parts, training, folder, progress, processes, kind=KIND, settings=described_by(training))


def described_by(training: Training) -> SliceSettings:
    """Return the settings of the model that a training produces."""
    network = training.settings.network
    return settings_from(SliceSettings, training, batch_statistics=network.batch_statistics, channels=tuple(network.channels))


def _refuse_high_slabs(training: Training, half_heights: list[float], network: SliceDetector) -> None:
    """Refuse, before any voxel is read, slabs that the budget does not hold.

    Their height depends on the voxel spacing, which the projection before the run may not know (`cost.expected_half_height`).
    """
    settings, train = training.settings, training.settings.train
    device = resolve_device(settings.device)
    if device.type != "cpu":
        return
    shapes = [t.shape for t in training.labelled.tomograms]
    slab, _ = slab_layout(shapes, half_height=max(half_heights), edge=train.crop, stride=network.stride, symmetry=train.symmetry)
    step = slab_step_bytes(
        network.channels, slab, batch=train.batch, species=network.species, precision=resolve_precision(train.precision, device)
    )
    buffer = min(training.buffer_bytes, 4 * sum(math.prod(shape) for shape in shapes))
    needed = LIBRARIES_BYTES + TORCH_BYTES + step + buffer
    if needed > settings.memory:
        raise BudgetError(
            f"training needs {format_bytes(needed)} ({train.batch} slabs of {' x '.join(map(str, slab))} voxels, {network.channels[0]} channels at the "
            f"finest level) but the memory budget is {format_bytes(settings.memory)}; raise --memory to that, or lower train.batch, train.crop, "
            "train.label_radius or network.channels"
        )


def _slabs(training: Training, labelled: Labelled, half_heights: list[float], *, stride: int, processes: Processes | None) -> Crops:
    """Return a dataset of slabs; see `network_training.crops_of`."""
    train = training.settings.train
    crop, symmetry = slab_layout(
        [t.shape for t in labelled.tomograms],
        half_height=max(half_heights),
        edge=train.crop,
        stride=stride,
        symmetry="none" if processes is None else train.symmetry,
    )
    return SlabDataset(
        tomograms=labelled.tomograms,
        points=labelled.points,
        radius=half_heights,
        crop=crop,
        stride=stride,
        batch=train.batch,
        symmetry=symmetry,
        **drawing(training, processes),
    )
