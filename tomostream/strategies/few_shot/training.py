"""Train a few-shot model: fit heads and filters in closed form, and choose between them by left-out clicks.

1. Compute the backbone's features at the clicks and in background boxes (`pretrained.looking`).
2. Judge each way of scoring by left-out clicks (`evidence.WAYS`: heads of three shrinkages, the matched filter, and their sums).  The log reports the
   choice, and `model.json` keeps the cost of each way.
3. Make the chosen way from all clicks.  Its intercept puts the logit 0 at the peak whose rank is the expected number in the background boxes.

The model is of the same kind as a U-Net's: a network and a matched filter.  Training takes no steps, so there is nothing to resume.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.learn.fit import write_metrics
from tomostream.learn.training_files import METRICS_NAME
from tomostream.progress import Progress
from tomostream.strategies.click_recording import with_clicks
from tomostream.strategies.model_folder import TrainingSummary
from tomostream.strategies.training_set import Training
from tomostream.strategies.unet.expected_number import known_number, numbers_in, with_estimates
from tomostream.strategies.unet.fusion import MatchedSettings
from tomostream.strategies.unet.model import UNetModel, save_model
from tomostream.strategies.unet.pretrained.backbone import shipped_backbone
from tomostream.strategies.unet.pretrained.evidence import WAYS
from tomostream.strategies.unet.pretrained.looking import judges_of, thinned
from tomostream.strategies.unet.pretrained.seeing import smoothing_vox, with_training_statistics
from tomostream.strategies.unet.training import described_by


def train_few_shot(training: Training, folder: Path, progress: Progress) -> None:
    """Train a few-shot model and write its folder.

    Raises
    ------
    TomostreamError
        If a species has no clicks, a tomogram can't be read, or the file of the backbone is damaged.
    """
    backbone = shipped_backbone()
    settings = training.settings
    for number, one in enumerate(settings.species):
        if not training.labelled.count(number):
            raise InputError(
                f"labels.train has no click of {one.name} in the training tomograms; objective few_shot needs at least one, preferably ten"
            )
    training = thinned(training, progress)
    labelled = training.labelled.clicked
    progress.say(
        f"few_shot on {', '.join(labelled.names)}: level {training.level} ({training.level_spacing:g} A per voxel), {labelled.total} clicks, "
        f"pretrained features of {backbone.features().channels[0]} channels"
    )
    judges = judges_of(training, backbone)
    verdicts = [judge.decide(WAYS, expected=known_number(training, number)) for number, judge in enumerate(judges)]
    species = with_estimates(training, [verdict.number for verdict in verdicts], progress)
    found = [
        judge.final(verdict, numbers_in(training, species, number))
        for number, (judge, verdict) in enumerate(zip(judges, verdicts, strict=True))
    ]
    for one, verdict in zip(species, verdicts, strict=True):
        progress.say(f"{one.name}: {verdict}")
        if verdict.is_blind:
            progress.warn(f"{one.name}: {verdict.warning}")
    radii = training.radii_vox
    matched = MatchedSettings(
        support_vox=tuple(defaults.SUPPORT * radius for radius in radii),
        floor=defaults.MATCHED_FLOOR,
        weight=tuple(result.slope for result in found),
        intercept=tuple(result.intercept for result in found),
        smooth_vox=smoothing_vox(training),
    )
    network = backbone.with_head(np.array([result.weights for result in found]), np.array([result.bias for result in found]))
    network = with_training_statistics(training, network)
    summary = TrainingSummary(
        best_epoch=1,
        expected_numbers=[[one.expected_in(name) for name in labelled.names] for one in species],
        chosen_ways=[str(verdict.way) for verdict in verdicts],
        left_out_ranks=[verdict.recorded_ranks for verdict in verdicts],
        evidence=[verdict.recorded for verdict in verdicts],
    )
    known = [min(verdict.costs) for verdict in verdicts if verdict.costs]
    write_metrics(folder / METRICS_NAME, [{"epoch": 1.0, "criterion": -float(np.mean(known)) if known else 0.0}])
    described, profiles = replace(described_by(training), matched=matched), tuple(result.profile for result in found)
    summary = with_clicks(summary, UNetModel(described, summary, folder, network.eval(), profiles), training, progress)
    save_model(folder, network, described, summary, profiles)
