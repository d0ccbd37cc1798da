"""How many particles of a species does a tomogram hold, as far as the user or the training knows?

1. The configuration's number for that tomogram.
2. Else the mean of the numbers that it gives for others.
3. Else the mean of what training estimated from the clicks (objectives that need a prior, where none is given; the model folder says).

Limits: a tomogram's size is not looked at; tomograms of one data set have about the same.
"""

from __future__ import annotations

import json

from tomostream.config import Configuration, Species
from tomostream.errors import InputError
from tomostream.project import Project


def expected_number(configuration: Configuration, project: Project, species: Species, tomogram: str) -> int | None:
    """The expected number of particles in a tomogram; None where nobody knows.

    Parameters
    ----------
    configuration
        Of the run.
    project
        Whose model folder tells what was estimated.
    species
        One of the configuration's.
    tomogram
        Its name.
    """
    given = species.expected_in(tomogram)
    if given is not None:
        return given
    known = list(species.expected.values()) if isinstance(species.expected, dict) else _estimated(configuration, project, species)
    return round(sum(known) / len(known)) if known else None


def check_count_is_knowable(configuration: Configuration) -> None:
    """Refuse, before anything is trained, a run whose picks could not be counted at its end.

    Raises
    ------
    InputError
        If the scores are to choose the count, but neither the user gives an expected number nor the objective estimates one.
    """
    pick, objective = configuration.pick, configuration.objective
    if isinstance(pick.count, int) or pick.count == "truth" or (pick.count is None and pick.threshold is not None):
        return
    if objective.needs_prior and objective.prior is None:
        return  # training estimates what is not given
    unknown = [species.name for species in configuration.species if species.expected in (None, {})]
    if unknown:
        raise InputError(
            f"how many {', '.join(unknown)} are to be picked? objective {objective.name} estimates no number: give species.expected, "
            "pick.count or pick.threshold"
        )


def _estimated(configuration: Configuration, project: Project, species: Species) -> list[int]:
    """What training estimated of the clicked tomograms, where the configuration has no number."""
    try:
        extra = json.loads((project.model / "model.json").read_text())["extra"]
        return [int(number) for number in extra["expected_numbers"][configuration.species.index(species)] if number is not None]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return []  # a strategy that estimates nothing, or no model yet
