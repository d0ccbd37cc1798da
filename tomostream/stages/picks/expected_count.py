"""How many particles of a species are expected in a tomogram, by the user or by training?

1. The configuration's number for that tomogram.
2. Else the mean of the numbers that it gives for others.
3. Else the mean of what training estimated from the clicks (strategies that need a prior, where none is given; the model folder says).

Limits: a tomogram's size is not looked at; tomograms of one data set have about the same.
"""

from __future__ import annotations

from tomostream.config import Species
from tomostream.errors import InputError
from tomostream.stages.picks.wanted_number import WantedNumber
from tomostream.stages.shared.resolved_run import ResolvedRun
from tomostream.strategies.model_folder import read_record


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
    known = list(species.expected.values()) if isinstance(species.expected, dict) else _estimated(run, species)
    return round(sum(known) / len(known)) if known else None


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
    unknown = [species.name for species in run.species if species.expected in (None, {})]
    if unknown:
        raise InputError(
            f"the number of {', '.join(unknown)} to pick is not set, and objective {run.strategy.name} does not estimate it: give species.expected, "
            "pick.count or pick.threshold"
        )


def _estimated(run: ResolvedRun, species: Species) -> list[int]:
    """What training estimated of the clicked tomograms, where the configuration has no number."""
    try:
        numbers = read_record(run.project.model).summary.expected_numbers
    except InputError:
        return []  # no model yet
    place = run.species.index(species)
    return [number for number in numbers[place] if number is not None] if numbers is not None and place < len(numbers) else []
