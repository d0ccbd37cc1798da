"""How is the strategy `slices2d` trained?  As the U-Net is (loop, checkpoints, validation), with its own network, crops and loss.

1. Slabs of slices: half of them around clicks, half anywhere; boxes on the slices near the clicks, all else is background.
2. The single-shot loss.
3. After each epoch the validation tomogram is scored slice by slice and its boxes are traced; the best epoch is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tomostream import __version__, defaults
from tomostream.geometry import Box, triple
from tomostream.picking.blocks import Picks
from tomostream.picking.traced import trace_volume
from tomostream.picking.tracing import default_tracing

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from tomostream.config import Configuration
    from tomostream.learn.batch import Batch
    from tomostream.learn.processes import Processes
    from tomostream.progress import Progress
    from tomostream.stages.training.stage import Labelled, Work
    from tomostream.strategies.slices2d.slabs import SlabDataset


def fit_slices2d(work: Work, folder: Path | None, progress: Progress, processes: Processes) -> None:
    """Train the detector and write the model folder; `folder` is None in all processes but the first.

    Raises
    ------
    TomostreamError
        If the settings don't fit, or training fails.
    """
    from tomostream.learn.fit import FitSettings, fit
    from tomostream.learn.precision import resolve_device, resolve_precision
    from tomostream.stages.training.stage import recorded, together
    from tomostream.strategies.batch_statistics import OPTION
    from tomostream.strategies.model_folder import StrategySettings, save_strategy_model
    from tomostream.strategies.slices2d.detector import SliceDetector
    from tomostream.strategies.slices2d.model import NAME, model_options, network_arrays, slice_sampling
    from tomostream.strategies.slices2d.scoring import SliceScorer
    from tomostream.strategies.slices2d.single_shot import SingleShot
    from tomostream.strategies.validation import plan_validation

    configuration, labelled, checked, level, spacing = work.configuration, work.labelled, work.checked, work.level, work.spacing
    train, species = configuration.train, configuration.species
    coarse = spacing * 2**level
    radii = [s.radius.in_voxels(coarse) for s in species]
    half_heights = [
        defaults.SLICES2D_LABEL_HEIGHT * radius if train.label_radius is None else train.label_radius.in_voxels(spacing) / 2**level
        for radius in radii
    ]
    network = SliceDetector(configuration.network.channels, len(species), seed=train.seed)
    dataset = _slabs(configuration, labelled, half_heights, stride=network.stride, processes=processes)
    device = resolve_device(configuration.predict.device)
    precision = resolve_precision(train.precision, device)
    objective = SingleShot(
        network.stride,
        tuple(2 * radius for radius in radii),
        object_weight=defaults.SLICES2D_OBJECT_WEIGHT,
        background_weight=defaults.SLICES2D_BACKGROUND_WEIGHT,
        centre_weight=defaults.SLICES2D_CENTRE_WEIGHT,
        class_weight=defaults.SLICES2D_CLASS_WEIGHT,
    )

    def score(candidate: nn.Module, volume: np.ndarray) -> np.ndarray:
        if not isinstance(candidate, SliceDetector):
            raise TypeError("slices2d trains a SliceDetector")
        return _probabilities(SliceScorer(candidate, radius=radii, device=device.type, precision=precision, threads=None), volume)

    checks = _slabs(configuration, checked or labelled, half_heights, stride=network.stride, processes=None)
    validation = replace(
        plan_validation(
            configuration,
            checked if processes.is_first else None,
            list(checks) if processes.is_first else [],
            spacing=spacing,
            level=level,
            objective=objective,
            precision=precision,
            sampling=slice_sampling(network),
        ),
        score=score,
        pick=_traced_picks,
    )

    def batches(epoch: int) -> Iterator[Batch]:
        dataset.set_epoch(epoch)
        return iter(dataset)

    def uniform() -> Iterator[torch.Tensor]:
        return dataset.uniform_images(defaults.RECALIBRATION_CROPS, seed=train.seed)

    labels = sum(labelled.count(i) for i in range(len(species)))
    progress.say(
        f"training {NAME} on {', '.join(t.name for t in labelled.tomograms)}: level {level} ({coarse:g} A per voxel), {labels} labels, cells of "
        f"{network.stride} voxels, {precision}{together(processes, train.batch)}"
    )
    with progress.track("train", train.steps) as bar:
        result = fit(
            network,
            batches=batches,
            objective=replace(objective, processes=processes),
            validate=validation.measure,
            recalibrate=uniform,
            settings=FitSettings(
                steps=train.steps,
                minutes=train.minutes,
                steps_per_epoch=train.steps_per_epoch,
                learning_rate=train.learning_rate,
                schedule=train.schedule,
                weight_decay=defaults.WEIGHT_DECAY,
                precision=precision,
                device=configuration.predict.device,
            ),
            folder=folder,
            fingerprint=work.fingerprint,
            report=bar.advance,
            processes=processes,
        )
    if folder is None:  # the first process writes the model
        return
    settings = StrategySettings(
        species=tuple(s.name for s in species),
        radius_ang=tuple(s.radius.in_angstrom(spacing) for s in species),
        level=level,
        spacing=spacing,
        clip_sigma=defaults.CLIP_SIGMA,
        trained_on=tuple(t.name for t in labelled.tomograms),
        version=__version__,
        options=model_options(network) | {OPTION: configuration.network.batch_statistics},
    )
    save_strategy_model(
        folder,
        NAME,
        network_arrays(network),
        settings,
        {"half_height_vox": half_heights, "best_epoch": result.best_epoch} | recorded(processes),
    )
    best = result.rows[result.best_epoch - 1]
    progress.say(f"best epoch {result.best_epoch} of {len(result.rows)}: criterion {best['criterion']:.3f}")


def _slabs(
    configuration: Configuration, labelled: Labelled, half_heights: list[float], *, stride: int, processes: Processes | None
) -> SlabDataset:
    from tomostream.stages.training.stage import VALIDATION_BATCHES
    from tomostream.strategies.slices2d.slabs import SlabDataset, slab_layout
    from tomostream.strategies.training_memory import training_buffer

    train = configuration.train
    is_validation = processes is None
    crop, symmetry = slab_layout(
        [t.shape for t in labelled.tomograms],
        half_height=max(half_heights),
        edge=train.crop,
        stride=stride,
        symmetry="none" if is_validation else train.symmetry,
    )
    return SlabDataset(
        tomograms=labelled.tomograms,
        points=labelled.points,
        radius=half_heights,
        crop=crop,
        stride=stride,
        batch=train.batch,
        batches_per_epoch=VALIDATION_BATCHES if is_validation else train.steps_per_epoch,
        labelled_fraction=1.0 if is_validation else train.labelled_fraction,
        seed=train.seed,
        symmetry=symmetry,
        buffer_bytes=training_buffer(configuration),
        rank=0 if processes is None else processes.rank,
        world=1 if processes is None else processes.world,
    )


def _probabilities(scorer: Any, volume: np.ndarray) -> np.ndarray:
    """Scores of a region as of a volume of its own: float32 (species, z, y, x)."""
    from scipy.special import expit

    from tomostream.inference.region_scoring import read_extended

    shape = triple(volume.shape)
    whole = Box.whole(shape)
    read = scorer.read_box(whole, shape)
    scores: np.ndarray = expit(scorer.logits(read_extended(lambda box: volume[box.slices], read, shape), read, whole, shape))
    return scores


def _traced_picks(scores: np.ndarray, radius: float, count: int, memory: int) -> Picks:
    """Pick as the strategy's scores are picked by default."""
    return trace_volume(
        lambda box: scores[box.slices],
        triple(scores.shape),
        radius=radius,
        threshold=None,
        count=count,
        tracing=default_tracing(radius),
        memory=memory,
    )
