"""Train the default strategy's model.

1. Judge filters and pretrained features with the clicks, and estimate missing expected numbers (`gathering`).
2. Compute the priors of the objective from the expected numbers (`priors`).
3. Train the network (`strategies.network_training`).
4. Join the network with the filter, and with the pretrained network if the clicks call for it (`fusion_fit`).
5. Measure the heights of the clicks in the finished model's scores (`strategies.click_recording`), and write the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from tomostream import defaults
from tomostream.catalogue import load
from tomostream.config.sections import Species
from tomostream.learn.objectives import Kind, KnownNegatives, Objective, make_objective
from tomostream.learn.precision import resolve_device, resolve_precision
from tomostream.learn.processes import Processes
from tomostream.progress import Progress
from tomostream.strategies.click_recording import with_clicks
from tomostream.strategies.model_folder import TrainingSummary
from tomostream.strategies.network_training import Crops, Parts, best_epoch_note, crops_of, train_network, trained_by
from tomostream.strategies.trained_settings import settings_from
from tomostream.strategies.training_set import Labelled, Training
from tomostream.strategies.unet.fusion_fit import Joined, join_told
from tomostream.strategies.unet.gathering import Gathered, gather
from tomostream.strategies.unet.model import UNetModel, UNetSettings, save_model, unet_sampling
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.priors import measure_negatives, measure_priors
from tomostream.strategies.unet.scorer import score_array
from tomostream.strategies.unet.settings import MatchedFilter
from tomostream.strategies.unet.starting import load_start
from tomostream.strategies.validation import greedy_picks
from tomostream.stream.paste import Pasting


def train_unet(objective: str, training: Training, folder: Path | None, progress: Progress, processes: Processes) -> None:
    """Train the network, join the filter to it, and write the model folder.

    Parameters
    ----------
    objective
        Import path of the objective's `learn.objectives.Kind`, as `module:object`.
    training, progress, processes
        See `strategies.protocol.Strategy.train`.
    folder
        Folder of the model; None in all processes but the first.

    Raises
    ------
    TomostreamError
        If the settings contradict each other, or training fails.
    """
    kind = cast(Kind, load(objective, "objective"))
    settings = training.settings
    train = settings.train
    fills_numbers = kind.needs_prior and settings.objective.prior is None
    gathered = processes.from_first(lambda: _gathered(training, progress, fills_numbers=fills_numbers))
    species = settings.species if gathered is None else gathered.species
    training = replace(training, settings=replace(settings, species=species))
    radii = label_radii(training)
    observed, expected = measure_priors(settings, species, training.labelled, radii)
    negatives = measure_negatives(settings, training.labelled, radii)
    risk = _objective(kind, training, radii, observed, expected, negatives)
    for note in risk.notes:
        progress.warn(note)
    network = ResidualUNet(settings.network.channels, len(species), seed=train.seed, prior=expected or observed)
    load_start(settings, network)
    precision = resolve_precision(train.precision, resolve_device(settings.device))

    def score(candidate: ResidualUNet, volume: np.ndarray, precision: str) -> np.ndarray:
        device = next(candidate.parameters()).device
        return score_array(volume, candidate, precision=precision, memory=settings.memory, device=device.type)

    parts = Parts(
        network=network,
        crops=_crops(training, radii, network.stride, has_negatives=negatives is not None),
        objective=lambda together: replace(risk, processes=together),
        sampling=unet_sampling(network.stride),
        recalibration_crops=defaults.RECALIBRATION_CROPS,
        score=score,
        pick=greedy_picks,
        title="training",
        label_text=f"objective {settings.objective.name}, ",
        label_radius_vox=radii,
    )
    result = train_network(parts, training, folder, progress, processes)
    if folder is None:  # the first process writes the model
        return
    joined = (
        None if gathered is None or not _is_filtered(training) else join_told(training, network, gathered, progress, precision=precision)
    )
    summary = TrainingSummary(
        best_epoch=result.best_epoch,
        expected_numbers=_numbers(training, species),
        labelled_fraction=observed,
        expected_fraction=expected,
        rejected=None if negatives is None else [sum(map(len, training.labelled.rejected_of(number))) for number in range(len(species))],
        rejected_fraction=None if negatives is None else [one.fraction for one in negatives],
        processes=trained_by(processes),
        chosen_ways=None if joined is None or gathered is None else [one.joined for one in gathered.told],
        look_alikes=None if joined is None else joined.tells_look_alikes,
        left_out_ranks=None if joined is None or gathered is None else [one.verdict.recorded_ranks for one in gathered.told],
        evidence=None if joined is None or gathered is None else [one.verdict.recorded for one in gathered.told],
    )
    described = _with_joined(replace(described_by(training), precision=precision), joined)
    profiles = () if joined is None else joined.profiles
    network = network if joined is None else joined.network
    summary = with_clicks(summary, UNetModel(described, summary, folder, network.eval(), profiles), training, progress)
    save_model(folder, network, described, summary, profiles)
    progress.say(best_epoch_note(result))


def _crops(training: Training, radii: list[float], stride: int, *, has_negatives: bool) -> Callable[[Labelled, Processes | None], Crops]:
    """Return the function that makes the crops (`Parts.crops`): with copies of clicked particles, and rejected places where there are some."""
    negatives, pasting = radii if has_negatives else None, Pasting(training.settings.train.pasted, training.radii_vox)

    def crops(labelled: Labelled, own: Processes | None) -> Crops:
        return crops_of(training, labelled, radii, stride=stride, processes=own, negative_radii=negatives, pasting=pasting)

    return crops


def _is_filtered(training: Training) -> bool:
    return training.settings.section(MatchedFilter).weight > 0


def _gathered(training: Training, progress: Progress, *, fills_numbers: bool) -> Gathered | None:
    """Return what the clicks say (`gathering.gather`); None if no filter is used and no expected number is missing."""
    is_open = fills_numbers and any(one.expected is None for one in training.settings.species)
    return gather(training, progress, fills_numbers=fills_numbers) if is_open or _is_filtered(training) else None


def label_radii(training: Training) -> list[float]:
    """Return the radius of the labels per species, in voxels of the level: the particle's radius, unless the configuration gives another."""
    given = training.given_label_radius_vox
    return training.radii_vox if given is None else [given] * len(training.settings.species)


def described_by(training: Training) -> UNetSettings:
    """Return the settings of the model, as far as they are known before training."""
    settings = training.settings
    given = settings.objective
    return settings_from(
        UNetSettings,
        training,
        batch_statistics=settings.network.batch_statistics,
        channels=tuple(settings.network.channels),
        label_shape=settings.train.label_shape,
        objective={"name": given.name, "weight": given.weight, "order": given.order},
        precision="float32",
    )


def _with_joined(described: UNetSettings, joined: Joined | None) -> UNetSettings:
    """Add to the settings of a model what was joined to its network."""
    if joined is None:
        return described
    described = replace(described, matched=joined.settings, faces=joined.faces, lookalikes=joined.lookalikes)
    if min(joined.shares) < 1:
        described = replace(described, network_shares=joined.shares)
    if joined.is_wider:
        described = replace(described, channels=joined.network.channels, learnt_channels=described.channels)
    return described


def _objective(
    kind: Kind,
    training: Training,
    radii: list[float],
    observed: list[float],
    expected: list[float] | None,
    negatives: list[KnownNegatives] | None,
) -> Objective:
    """Make the objective from the configuration, the radii of the labels, the fractions of `measure_priors` and the rejected places."""
    given = training.settings.objective
    return make_objective(
        kind,
        weight=given.weight,
        order=given.order,
        labelled_fraction=observed,
        expected_fraction=expected,
        particle_voxels=[4 / 3 * math.pi * radius**3 for radius in radii],
        negatives=negatives,
    )


def _numbers(training: Training, species: tuple[Species, ...]) -> list[list[int | None]]:
    """Return [species][clicked tomogram]: the expected number of particles, given or estimated."""
    return [[one.expected_in(name) for name in training.labelled.clicked.names] for one in species]
