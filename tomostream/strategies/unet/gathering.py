"""Learn from the clicks, before a network is trained, which filter finds them, whether pretrained features help, and how many particles there are.

1. For each species, left-out clicks judge the ways of scoring that need no trained network (`pretrained.evidence.JOINING`, `pretrained.judging`).
2. Of the ways that rank the clicks about as well as the best, the one that is cheapest to compute wins: a filter alone, or a filter and a head on
   pretrained features.  If even the best is blind (`pretrained.evidence.BLIND`), nothing is joined to the network.
3. Where the configuration gives no expected number, it is estimated from the clicks (`expected_number`).
4. A training that goes on from a model keeps that model's choice and number (`earlier_choice`).
5. The lower the left-out clicks rank, the less the filter weighs beside the network (`trust_in`; docs/measurements.md, "What joins the network").

The pretrained network can only be joined to a network of three levels, and is not used with `network.backbone: none`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tomostream.config.configuration import LearningSettings
from tomostream.config.sections import Species
from tomostream.progress import Progress
from tomostream.strategies.training_set import Training
from tomostream.strategies.unet.earlier_choice import earlier_choice
from tomostream.strategies.unet.expected_number import known_number, with_estimates
from tomostream.strategies.unet.joined_channels import are_joinable
from tomostream.strategies.unet.pretrained.evidence import JOINING, Verdict
from tomostream.strategies.unet.pretrained.settings import CHANNELS

TRUSTED = 1.5  # a filter, or a network, keeps its whole weight while the number of particles by its ranks is at most so many times the expected one


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
    trust
        Share of its configured weight that the filter gets, 0 to 1.
    network_share
        Share of its weight that the network keeps, as an earlier model says; None: its own ranks decide (`network_trust`).
    judged
        Tomogram and position (z y x, in voxels of the level) of each left-out click, in the order of the verdict's ranks.
    """

    verdict: Verdict
    profile: np.ndarray
    head: np.ndarray | None
    trust: float = 1.0
    network_share: float | None = None
    judged: tuple[tuple[str, np.ndarray], ...] = ()

    @property
    def joined(self) -> str:
        """Description of what is joined to the network, for `model.json`."""
        return "the network alone" if self.verdict.is_blind else str(self.verdict.way)


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

    has_backbone = takes_backbone(training.settings)
    earlier = earlier_choice(training, has_backbone=has_backbone)
    backbone = shipped_backbone() if has_backbone and (earlier is None or earlier.needs_backbone) else None
    training = thinned(training, progress)
    judges = judges_of(training, backbone)
    ways = JOINING if backbone is not None else tuple(way for way in JOINING if way.shrinkage is None)
    told: list[Told] = []
    for number, (one, judge) in enumerate(zip(training.settings.species, judges, strict=True)):
        verdict = judge.decide(ways, expected=known_number(training, number)) if earlier is None else earlier.verdicts[number]
        way = verdict.way
        head = None if way.shrinkage is None or verdict.is_blind else judge.head(way.shrinkage)[0]
        profile = judge.profile(is_telling=way.is_telling)
        if earlier is None:
            told.append(Told(verdict, profile, head, judged=judge.judged if verdict.ranks else ()))
        else:
            told.append(Told(verdict, profile, head, network_share=earlier.shares[number]))
        if verdict.is_blind:
            progress.warn(f"{one.name}: nothing is joined to the network: {verdict.warning}")
        elif earlier is not None:
            progress.say(f"{one.name}: the network is joined by {verdict.way}, as in the model that training goes on from")
        else:
            progress.say(f"{one.name}: the network is joined by {verdict}")
    species = training.settings.species
    if fills_numbers:
        kept = None if earlier is None else earlier.with_numbers(training)
        species = with_estimates(training, [one.verdict.number for one in told], progress) if kept is None else kept
    known = replace(training, settings=replace(training.settings, species=species))
    trusts = [trust_in(one.verdict, known_number(known, number)) for number, one in enumerate(told)]
    return Gathered(tuple(replace(one, trust=trust) for one, trust in zip(told, trusts, strict=True)), species)


def trust_in(verdict: Verdict, expected: float | None) -> float:
    """Return the share of its weight that the filter gets, 0 to 1.

    Parameters
    ----------
    verdict
        With the number of particles by the ranks of left-out clicks: false peaks among them raise it.
    expected
        Expected number of particles in all clicked tomograms together; None: unknown, and the filter is trusted unless it is blind.
    """
    if verdict.is_blind:
        return 0.0
    if expected is None or verdict.number is None:
        return 1.0
    return min(1.0, TRUSTED * expected / verdict.number)


def heads_of(told: Sequence[Told]) -> np.ndarray | None:
    """Return the weights (s, c) of the heads of all species, with zeros for species without one; None if no species has one."""
    heads = [one.head for one in told]
    if all(head is None for head in heads):
        return None
    return np.array([np.zeros(CHANNELS[0]) if head is None else head for head in heads])
