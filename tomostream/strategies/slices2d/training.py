"""Train `slices2d` with the shared training loop (`strategies.network_training`).

1. The crops are slabs of slices, some around clicks and some anywhere (`slabs`).  Slices near a click have a box; everything else is background.
2. The objective is the single-shot loss (`single_shot`).
3. After each epoch the validation tomograms are scored slice by slice and boxes are traced through z; the best epoch is kept.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tomostream import defaults
from tomostream.learn.processes import Processes
from tomostream.picking.traced import PICKER as TRACE
from tomostream.progress import Progress
from tomostream.strategies.network_training import Crops, Parts, drawing, scores_by, train_network_model
from tomostream.strategies.slices2d.detector import SliceDetector
from tomostream.strategies.slices2d.model import KIND, SliceSettings, slice_sampling
from tomostream.strategies.slices2d.scoring import SliceScorer
from tomostream.strategies.slices2d.single_shot import SingleShot
from tomostream.strategies.slices2d.slabs import SlabDataset, slab_layout
from tomostream.strategies.trained_settings import settings_from
from tomostream.strategies.training_set import Labelled, Training
from tomostream.strategies.validation import picks_by


def train_slices(training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
    """Train the detector and write the model folder; parameters as in `strategies.protocol.Strategy.train`.

    Raises
    ------
    TomostreamError
        If training fails.
    """
    settings = training.settings
    radii, given = training.radii_vox, training.given_label_radius_vox
    half_heights = [defaults.SLICES2D_LABEL_HEIGHT * radius if given is None else given for radius in radii]
    network = SliceDetector(settings.network.channels, len(settings.species), seed=settings.train.seed)
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
