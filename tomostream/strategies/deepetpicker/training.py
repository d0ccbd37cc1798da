"""How is the strategy `deepetpicker` trained?  As the U-Net is (same crops, loop, checkpoints, validation), with its own network, labels and loss.

1. Labels: a thresholded Gaussian around each centre, smaller than the particle; all else is background.
2. Crops around labels only, as large as the patches of inference will be.
3. Dice loss; after each epoch the validation tomogram is scored by patches and picked by mean-pooling, and the best epoch kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tomostream import __version__, defaults
from tomostream.errors import InputError
from tomostream.geometry import Box, triple
from tomostream.picking.blocks import Picks, pick_array
from tomostream.picking.pooled import pick_pooled

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

    from tomostream.config import Configuration
    from tomostream.learn.batch import Batch
    from tomostream.learn.processes import Processes
    from tomostream.progress import Progress
    from tomostream.stages.training.stage import Labelled, Work
    from tomostream.stream.dataset import SubtomogramDataset


def fit_deepetpicker(work: Work, folder: Path | None, progress: Progress, processes: Processes) -> None:
    """Train the network and write the model folder; `folder` is None in all processes but the first.

    Raises
    ------
    TomostreamError
        If the settings don't fit, or training fails.
    """
    from tomostream.learn.fit import FitSettings, fit
    from tomostream.learn.objectives import Objective
    from tomostream.learn.precision import resolve_device, resolve_precision
    from tomostream.stages.training.stage import recorded, together
    from tomostream.strategies.batch_statistics import OPTION
    from tomostream.strategies.deepetpicker.loss import Dice
    from tomostream.strategies.deepetpicker.model import NAME, label_radius, model_options, network_arrays, patch_sampling
    from tomostream.strategies.deepetpicker.network import CoordinateUNet
    from tomostream.strategies.deepetpicker.patches import PatchScorer
    from tomostream.strategies.model_folder import StrategySettings, save_strategy_model
    from tomostream.strategies.validation import plan_validation

    configuration, labelled, checked, level, spacing = work.configuration, work.labelled, work.checked, work.level, work.spacing
    train, species = configuration.train, configuration.species
    patch = triple(train.crop)
    if train.crop <= 2 * defaults.PATCH_PADDING_VOX:
        raise InputError(
            f"train.crop: the patches of deepetpicker only look at {defaults.PATCH_PADDING_VOX} voxels on each side, so they must be longer than "
            f"{2 * defaults.PATCH_PADDING_VOX}, found {train.crop}"
        )
    coarse = spacing * 2**level
    radii = [
        label_radius(s.radius.in_voxels(coarse)) if train.label_radius is None else train.label_radius.in_voxels(spacing) / 2**level
        for s in species
    ]
    network = CoordinateUNet(configuration.network.channels, len(species), seed=train.seed)
    dataset = _crops(configuration, labelled, radii, stride=network.stride, processes=processes)
    device = resolve_device(configuration.predict.device)
    precision = resolve_precision(train.precision, device)
    objective = Objective(NAME, (Dice(),) * len(species), (1.0,) * len(species), ())

    def score(candidate: nn.Module, volume: np.ndarray) -> np.ndarray:
        if not isinstance(candidate, CoordinateUNet):
            raise TypeError("deepetpicker trains a CoordinateUNet")
        scorer = PatchScorer(
            candidate, edge=patch, padding=defaults.PATCH_PADDING_VOX, device=device.type, precision=precision, threads=None
        )
        return _probabilities(scorer, volume)

    checks = _crops(configuration, checked or labelled, radii, stride=network.stride, processes=None)
    validation = replace(
        plan_validation(
            configuration,
            checked if processes.is_first else None,
            list(checks) if processes.is_first else [],
            spacing=spacing,
            level=level,
            objective=objective,
            precision=precision,
            sampling=patch_sampling(network, patch),
        ),
        score=score,
        pick=_pooled_picks,
    )

    def batches(epoch: int) -> Iterator[Batch]:
        dataset.set_epoch(epoch)
        return iter(dataset)

    def uniform() -> Iterator[torch.Tensor]:
        return dataset.uniform_images(defaults.DEEPETPICKER_RECALIBRATION_CROPS, seed=train.seed)

    labels = sum(labelled.count(i) for i in range(len(species)))
    progress.say(
        f"training {NAME} on {', '.join(t.name for t in labelled.tomograms)}: level {level} ({coarse:g} A per voxel), {labels} labels of radius "
        f"{', '.join(f'{r:.1f}' for r in radii)} voxels, {precision}{together(processes, train.batch)}"
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
        options=model_options(network, patch) | {OPTION: configuration.network.batch_statistics},
    )
    save_strategy_model(
        folder, NAME, network_arrays(network), settings, {"label_radius_vox": radii, "best_epoch": result.best_epoch} | recorded(processes)
    )
    best = result.rows[result.best_epoch - 1]
    progress.say(f"best epoch {result.best_epoch} of {len(result.rows)}: criterion {best['criterion']:.3f}")


def _crops(
    configuration: Configuration, labelled: Labelled, radii: list[float], *, stride: int, processes: Processes | None
) -> SubtomogramDataset:
    from tomostream.stages.training.stage import VALIDATION_BATCHES
    from tomostream.strategies.training_memory import training_buffer
    from tomostream.stream.dataset import SubtomogramDataset

    train = configuration.train
    is_validation = processes is None
    return SubtomogramDataset(
        tomograms=labelled.tomograms,
        points=labelled.points,
        radius=radii,
        label_shape=train.label_shape,
        crop=train.crop,
        stride=stride,
        batch=train.batch,
        batches_per_epoch=VALIDATION_BATCHES if is_validation else train.steps_per_epoch,
        labelled_fraction=1.0 if is_validation else train.labelled_fraction,
        seed=train.seed,
        symmetry="none" if is_validation else train.symmetry,
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


def _pooled_picks(scores: np.ndarray, radius: float, count: int, memory: int) -> Picks:
    """Pick as the strategy's scores are picked by default."""
    return pick_pooled(
        lambda pool: pick_array(scores, radius=radius, threshold=0.0, count=count, memory=memory, pool=pool),
        radius=radius,
        threshold=None,
        count=count,
        as_logits=False,
    )
