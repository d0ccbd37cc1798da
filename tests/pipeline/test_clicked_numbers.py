"""Fewer picks than clicks are told, where the scores chose the number; a number that a person gave is not doubted."""

import numpy as np
import pytest
from species_project import Heard, elsewhere, two_species

from tomostream.config import configuration_from
from tomostream.formats.registry import write_table
from tomostream.pipeline.clicked_numbers import tell_fewer_than_clicked
from tomostream.stages.shared.resolved_run import resolve


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return two_species(tmp_path_factory.mktemp("clicked"))


@pytest.mark.parametrize(
    ("pick", "fewer", "is_told"),
    [
        ({"count": "auto"}, 1, True),
        ({}, 1, True),
        ({"count": "auto"}, 0, False),
        ({"count": 3}, 1, False),
        ({"count": "auto", "threshold": 0.5}, 1, False),
    ],
)
def test_fewer_picks_than_clicks_are_told_where_the_scores_chose(project, tmp_path, pick, fewer, is_told):
    values = elsewhere(project, tmp_path / "project") | {"pick": pick}
    run = resolve(configuration_from(values, "test"), with_clicks=True)
    run.project.create()
    run.project.picks.mkdir(exist_ok=True)
    name, clicks = next(iter(run.clicks.train.in_unit("angstrom", 10.0).by_tomogram()))
    ribosomes = clicks.of(species="ribosome")
    few = ribosomes.select(np.arange(len(ribosomes)) >= fewer)  # as if these were the picks
    for one in run.tomograms:
        table = run.project.picks / f"{one}.csv"
        write_table(table, type(clicks).concatenate([few, clicks.of(species="fas")]) if one == name else run.clicks.train.of(tomogram=one))
    heard = Heard()
    tell_fewer_than_clicked(run, heard)
    assert [text.partition(";")[0] for text in heard.warned] == (
        [f"{name}: {len(few)} picks of ribosome, fewer than the {len(ribosomes)} particles that were clicked there"] if is_told else []
    )
