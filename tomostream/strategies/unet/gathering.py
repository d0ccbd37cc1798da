"""What do the clicks tell before a network is trained?  Which filter finds them, whether pretrained features help, and how many there may be.

1. Each species' ways of scoring without a trained network (`pretrained.evidence.JOINING`) are judged by left-out clicks (`pretrained.judging`).
2. The cheapest to compute wins that ranks them about as well as the best: a filter alone, or one beside a head on pretrained features.
3. Where nobody says how many particles there are, the ranks of the clicks say it (`expected_number`).
4. The filter's weight beside the network falls as the left-out clicks rank lower (`trust_in`): docs/accuracy.md, "What joins the network".

A network with other than three levels can't have the pretrained one beside it; nor has one with `network.backbone: none`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tomostream.config.configuration import LearningSettings
from tomostream.config.sections import Species
from tomostream.progress import Progress
from tomostream.strategies.training_set import Training
from tomostream.strategies.unet.expected_number import known_number, with_estimates
from tomostream.strategies.unet.joined_channels import are_joinable
from tomostream.strategies.unet.pretrained.evidence import JOINING, Verdict, number_of
from tomostream.strategies.unet.pretrained.settings import CHANNELS

TRUSTED = 1.5  # times as many particles as expected, by the ranks of left-out clicks: up to it the filter has its whole weight


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What a species' clicks tell of what joins the network.

    Parameters
    ----------
    verdict
        The way, and what each cost.
    profile
        Of the filter, float64 (r,).
    head
        Weights (c,) of the pretrained features; None: the way has no head.
    trust
        In the filter: 0 to 1 of its weight.
    """

    verdict: Verdict
    profile: np.ndarray
    head: np.ndarray | None

    trust: float = 1.0

    @property
    def joined(self) -> str:
        """What joins the network, for `model.json`."""
        return "the network alone" if self.verdict.is_blind else str(self.verdict.way)


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """What the clicks tell: of each species, and the species with their expected numbers, given or estimated."""

    told: tuple[Told, ...]
    species: tuple[Species, ...]


def takes_backbone(settings: LearningSettings) -> bool:
    """Whether a pretrained network may come beside the trained one."""
    return settings.network.backbone == "auto" and are_joinable(settings.network.channels, CHANNELS)


def gather(training: Training, progress: Progress, *, fills_numbers: bool) -> Gathered:
    """Ask the clicks.

    Parameters
    ----------
    fills_numbers
        Whether expected numbers that the configuration leaves open are estimated.

    Raises
    ------
    TomostreamError
        If a tomogram can't be read, or the backbone is damaged.
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
        head = None if way.shrinkage is None or verdict.is_blind else judge.head(way.shrinkage)[0]
        told.append(Told(verdict, judge.profile(is_telling=way.is_telling), head))
        if verdict.is_blind:
            progress.warn(f"{one.name}: nothing joins the network: {verdict.warning}")
        else:
            progress.say(f"{one.name}: what joins the network is {verdict}")
    species = training.settings.species
    if fills_numbers:
        species = with_estimates(training, [one.verdict.number for one in told], progress)
    known = replace(training, settings=replace(training.settings, species=species))
    trusts = [trust_in(one.verdict, known_number(known, number)) for number, one in enumerate(told)]
    return Gathered(tuple(replace(one, trust=trust) for one, trust in zip(told, trusts, strict=True)), species)


def trust_in(verdict: Verdict, expected: float | None) -> float:
    """How much of its weight the filter gets: all while it ranks the left-out clicks about where a perfect one would.

    Parameters
    ----------
    expected
        Particles in all clicked tomograms together, given or estimated; None: nobody knows, and only a blind filter is not trusted.
    """
    if verdict.is_blind:
        return 0.0
    if expected is None or not verdict.ranks:
        return 1.0
    return min(1.0, TRUSTED * expected / number_of(verdict.ranks))


def heads_of(told: Sequence[Told]) -> np.ndarray | None:
    """Weights (s, c) of all species' heads, 0 for those without one; None where none has one."""
    heads = [one.head for one in told]
    if all(head is None for head in heads):
        return None
    return np.array([np.zeros(CHANNELS[0]) if head is None else head for head in heads])
