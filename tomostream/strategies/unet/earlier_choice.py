"""What joins the network of a training that goes on from a model (`train.start`): what its clicks chose for that model.

Answers to suggested places are no random sample of the particles: they lie where the model was in doubt.  Their ranks therefore speak against the
way of scoring that the model has, and say nothing of the number of particles.  So the choice and the estimated number are kept, and only filters,
heads and weights are made anew, from all clicks.  That also takes less time than judging.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tomostream.config.sections import Species
from tomostream.strategies.model_folder import TrainingSummary
from tomostream.strategies.training_set import Training
from tomostream.strategies.unet.pretrained.evidence import JOINING, Verdict, number_of
from tomostream.strategies.unet.starting import checked_start


@dataclass(frozen=True, slots=True)
class EarlierChoice:
    """For each species the verdict, the expected number of particles per voxel of level 0 (None: not known), and the network's share of its weight."""

    verdicts: tuple[Verdict, ...]
    densities: tuple[float | None, ...]
    shares: tuple[float, ...]

    @property
    def needs_backbone(self) -> bool:
        """Whether a chosen way has a head on pretrained features."""
        return any(one.way.shrinkage is not None for one in self.verdicts)

    def with_numbers(self, training: Training) -> tuple[Species, ...] | None:
        """Return the species with missing expected numbers filled in, by volume; None if the model does not tell one of them."""
        labelled = training.labelled.clicked
        species: list[Species] = []
        for number, (one, density) in enumerate(zip(training.settings.species, self.densities, strict=True)):
            if one.expected is not None:
                species.append(one)
                continue
            if density is None:
                return None
            clicked = {t.name: len(points[number]) for t, points in zip(labelled.tomograms, labelled.points, strict=True)}
            voxels = {t.name: math.prod(t.shape) * 8**training.level for t in labelled.tomograms}
            expected = {name: max(count + 1, round(density * voxels[name])) for name, count in clicked.items()}
            species.append(one.model_copy(update={"expected": expected}))
        return tuple(species)


def earlier_choice(training: Training, *, has_backbone: bool) -> EarlierChoice | None:
    """Return the choice of the model from which the training goes on; None if there is no such model, or if it does not tell.

    Parameters
    ----------
    training
        Its species are those of the model.
    has_backbone
        Whether pretrained features may be joined.

    Raises
    ------
    InputError
        If the model is missing or differs from this training in kind, channels or species.
    """
    if training.settings.train.start is None:
        return None
    record = checked_start(training.settings)
    summary = record.summary
    known = {str(way): way for way in JOINING if has_backbone or way.shrinkage is None}
    chosen, evidence, ranks = summary.chosen_ways, summary.evidence, summary.left_out_ranks
    if chosen is None or evidence is None or ranks is None or any(way not in known for way in chosen):
        return None  # a model without a filter, of an earlier version, or whose clicks were ranked among the background
    verdicts = [
        Verdict(tuple(known.values()), (), known[way], number_of(own) if own else None, tuple(own))
        for way, own in zip(chosen, ranks, strict=True)
    ]
    shares = record.settings.get("network_shares") or [1.0] * len(chosen)
    return EarlierChoice(tuple(verdicts), tuple(_density(summary, number) for number in range(len(chosen))), tuple(map(float, shares)))


def _density(summary: TrainingSummary, number: int) -> float | None:
    if summary.expected_numbers is None or summary.clicked_voxels is None:
        return None
    own = summary.expected_numbers[number]
    return None if None in own else sum(one for one in own if one is not None) / sum(summary.clicked_voxels)
