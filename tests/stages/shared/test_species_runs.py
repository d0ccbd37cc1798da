"""The run of each species: its share of the minutes, which does not decide whether its model is kept."""

import pytest
from species_project import two_species

from tomostream.config import configuration_from
from tomostream.stages.shared.resolved_run import resolve
from tomostream.stages.shared.species_runs import species_runs
from tomostream.strategies.network_training import fit_settings
from tomostream.strategies.training_set import Training


@pytest.mark.parametrize(("together", "expected"), [(False, [5.0, 5.0]), (True, [10.0])])
def test_the_minutes_are_those_of_the_whole_training(tmp_path, together, expected):
    values = two_species(tmp_path, objective={"name": "kl"}, train={"minutes": 10, "together": together})
    run = resolve(configuration_from(values, "test"), with_clicks=True)
    runs = species_runs(run)
    assert [one.learning.minutes for one in runs] == expected
    for one in runs:
        assert fit_settings(Training.planned(one.learning, 0, 10.0), "float32").minutes == one.learning.minutes
        assert one.strategy.fingerprint(one.learning)["train"]["minutes"] == 10
    none = resolve(configuration_from(values | {"train": {}}, "test"), with_clicks=True)
    assert [one.learning.minutes for one in species_runs(none)] == [None, None]
