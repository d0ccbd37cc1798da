"""Learn from the clicks, before a network is trained, which filter finds them, whether pretrained features help, and how many particles there are.

1. For each species, left-out clicks judge the ways of scoring that need no trained network (`pretrained.evidence.JOINING`, `pretrained.judging`).
2. Of the ways that rank the clicks about as well as the best, the one that is cheapest to compute wins: a filter alone, or a filter and a head on
   pretrained features.
3. Where the configuration gives no expected number, it is estimated from the clicks (`expected_number`).

The pretrained network can only be joined to a network of three levels, and is not used with `network.backbone: none`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tomostream.config.configuration import LearningSettings
from tomostream.config.sections import Species
from tomostream.progress import Progress
from tomostream.strategies.training_set import Training
from tomostream.strategies.unet.expected_number import known_number, with_estimates
from tomostream.strategies.unet.joined_channels import are_joinable
from tomostream.strategies.unet.pretrained.evidence import JOINING, Verdict
from tomostream.strategies.unet.pretrained.settings import CHANNELS


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What the clicks of one species say about the filter and the head that join the network.

    Parameters
    ----------
    verdict
        The chosen way of scoring, and the cost of each.
    profile
        Radial profile of the filter, float64 (r,).
    head
        Weights (c,) of the pretrained features; None: the chosen way has no head.
    """

    verdict: Verdict
    profile: np.ndarray
    head: np.ndarray | None


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """What the clicks say: `told` per species, and the species with their expected numbers, given or estimated."""

    told: tuple[Told, ...]
    species: tuple[Species, ...]


def takes_backbone(settings: LearningSettings) -> bool:
    """Whether the settings allow joining the pretrained network to the trained one."""
    return settings.network.backbone == "auto" and are_joinable(settings.network.channels, CHANNELS)


def gather(training: Training, progress: Progress, *, fills_numbers: bool) -> Gathered:
    """Judge the ways of scoring by left-out clicks, and estimate missing expected numbers; log both.

    Parameters
    ----------
    training
        Settings and clicked tomograms.
    progress
        Receives the log lines.
    fills_numbers
        Whether to estimate expected numbers that the configuration does not give.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read, or the file of the pretrained backbone is damaged.
    """
    from tomostream.strategies.unet.pretrained.backbone import shipped_backbone
    from tomostream.strategies.unet.pretrained.looking import judges_of, thinned

    backbone = shipped_backbone() if takes_backbone(training.settings) else None
    training = thinned(training, progress)
    judges = judges_of(training, backbone)
    ways = JOINING if backbone is not None else tuple(way for way in JOINING if way.shrinkage is None)
    told: list[Told] = []
    for number, (one, judge) in enumerate(zip(training.settings.species, judges, strict=True)):
        verdict = judge.decide(ways, expected=known_number(training, number))
        way = verdict.way
        told.append(
            Told(verdict, judge.profile(is_telling=way.is_telling), None if way.shrinkage is None else judge.head(way.shrinkage)[0])
        )
        progress.say(f"{one.name}: the network is joined by {verdict}")
    species = training.settings.species
    return Gathered(tuple(told), with_estimates(training, [one.verdict.number for one in told], progress) if fills_numbers else species)


def heads_of(told: Sequence[Told]) -> np.ndarray | None:
    """Return the weights (s, c) of the heads of all species, with zeros for species without one; None if no species has one."""
    heads = [one.head for one in told]
    if all(head is None for head in heads):
        return None
    return np.array([np.zeros(CHANNELS[0]) if head is None else head for head in heads])
