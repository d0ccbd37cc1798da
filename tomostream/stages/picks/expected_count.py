"""How many particles of a species are expected in a tomogram, by the user or by training?

1. The configuration's number for that tomogram; a single number is that of each tomogram, whatever its size.
2. Else, by volume: as many per voxel as in the tomograms that the configuration gives numbers for.
3. Else, by volume, as many per voxel as training estimated from the clicks (strategies that need a prior, where none is given; the model folder says).

Limits: every voxel counts, also where a tomogram holds no sample; models of version 0.1 don't tell the size of their tomograms, so that the mean
number of those is taken.
"""

from __future__ import annotations

import math
from dataclasses import replace

from tomostream.config import Species
from tomostream.errors import InputError
from tomostream.picking.click_heights import ClickHeights
from tomostream.picking.how_many import AsManyAs
from tomostream.stages.picks.wanted_number import WantedNumber
from tomostream.stages.shared.resolved_run import Head, ResolvedRun
from tomostream.strategies.model_folder import TrainingSummary, read_record
from tomostream.strategies.several_models import summary_of


def expected_number(run: ResolvedRun, species: Species, tomogram: str) -> int | None:
    """Return the expected number of particles in a tomogram; None if it is unknown.

    Parameters
    ----------
    run
        The number comes from its configuration, or else from its model.
    species
        One of the run's.
    tomogram
        Its name.
    """
    given = species.expected_in(tomogram)
    if given is not None:
        return given
    if _is_given(species):
        known = [(number, _voxels(run, name)) for name, number in species.expected.items()] if isinstance(species.expected, dict) else []
    else:
        known = _estimated(run, species)
    return _by_volume(known, _voxels(run, tomogram)) if known else None


def with_evidence(wanted: AsManyAs, run: ResolvedRun, species: Species, tomogram: str) -> AsManyAs:
    """The same number, and what training knows of it: whether it is its own estimate, how high the clicks stand, and how many there are in the tomogram.

    Smoothed scores have other peaks than those that training measured.  The clicks of a tomogram say how many particles the whole of it has at
    least, with any score.
    """
    summary, place = _summary(run, species)
    clicks = None
    if summary is not None and summary.clicks is not None and place < len(summary.clicks) and run.pick.smooth is None:
        own = summary.clicks[place]
        clicks = ClickHeights(tuple(own.learnt), tuple(own.left_out), own.unit)
    least = 0
    if summary is not None and summary.clicked is not None and place < len(summary.clicked) and _takes_all(run):
        least = summary.clicked[place].get(tomogram, 0)
    return replace(wanted, clicks=clicks, is_estimate=not _is_given(species), least=least)


def _takes_all(run: ResolvedRun) -> bool:
    """Whether picks come from the whole of each tomogram, with any score."""
    return run.region.is_everywhere and run.pick.border is None and run.pick.threshold is None


def _is_given(species: Species) -> bool:
    """Whether the configuration gives a number, for any tomogram."""
    return species.expected not in (None, {})


def _by_volume(known: list[tuple[int, int | None]], voxels: int | None) -> int:
    """The number in a volume of this many voxels, in proportion to the numbers in the others; their mean if a size is not known."""
    sizes = [size for _, size in known if size]
    total = sum(number for number, _ in known)
    if voxels is None or len(sizes) < len(known):
        return round(total / len(known))
    number = total * voxels / sum(sizes)
    return max(1, round(number)) if total else 0


def _voxels(run: ResolvedRun, tomogram: str) -> int | None:
    """Return the voxels of level 0; None if the tomogram is not part of the run, or its file could not be read."""
    one = run.tomograms.get(tomogram)
    return math.prod(one.head.shape) if one is not None and isinstance(one.head, Head) else None


def check_count_is_knowable(run: ResolvedRun) -> None:
    """Refuse, before training, a run that would not know how many picks to make.

    Raises
    ------
    InputError
        If the scores are to choose the count, but neither the user gives an expected number nor the strategy estimates one.
    """
    number = WantedNumber(run.pick.count, run.pick.threshold)
    if number.is_by_truth or not number.is_by_scores:
        return
    if run.strategy.needs_prior and run.learning.objective.prior is None:
        return  # training estimates what is not given
    unknown = [species.name for species in run.species if not _is_given(species)]
    if unknown:
        raise InputError(
            f"the number of {', '.join(unknown)} to pick is not set, and objective {run.strategy.name} does not estimate it: give species.expected, "
            "pick.count or pick.threshold"
        )


def _estimated(run: ResolvedRun, species: Species) -> list[tuple[int, int | None]]:
    """What training estimated of the clicked tomograms, with their voxels, where the configuration has no number."""
    summary, place = _summary(run, species)
    numbers = None if summary is None else summary.expected_numbers
    if summary is None or numbers is None or place >= len(numbers):
        return []
    voxels: list[int] | list[None] = summary.clicked_voxels or [None] * len(numbers[place])
    return [(number, size) for number, size in zip(numbers[place], voxels, strict=False) if number is not None]


def _summary(run: ResolvedRun, species: Species) -> tuple[TrainingSummary | None, int]:
    """What training reported, None where there is no model yet; and the place of a species in its lists."""
    try:
        found = summary_of(read_record(run.project.model), run.project.model, species.name)
    except InputError:
        found = None
    return found or (None, 0)
