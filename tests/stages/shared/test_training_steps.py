"""More clicks are learnt from in more steps, unless the configuration says how many."""

import numpy as np
import pytest
import yaml
from small_project import make_project

from tomostream.config import configuration_from
from tomostream.stages.shared.resolved_run import resolve
from tomostream.stages.shared.species_runs import species_runs


def steps_of(folder, clicks, **train):
    values = yaml.safe_load(make_project(folder).read_text())
    table = folder / "many.csv"
    rows = np.random.default_rng(0).uniform(5, 30, (clicks, 3)).round(2).tolist()
    table.write_text("\n".join(["tomogram,species,x_voxel,y_voxel,z_voxel", *(f"t1,ribosome,{x},{y},{z}" for x, y, z in rows)]) + "\n")
    del values["species"][0]["expected"]
    values |= {"labels": {"train": [str(table)]}, "train": train}
    run = resolve(configuration_from(values, "test"), with_clicks=True)
    assert run.values["train"]["steps"] == run.learning.train.steps
    return run.learning.train.steps


@pytest.mark.parametrize(("clicks", "steps"), [(1, 400), (10, 400), (33, 400), (50, 600), (100, 1200), (150, 1200)])
def test_steps_follow_the_clicks(tmp_path, clicks, steps):
    assert steps_of(tmp_path, clicks) == steps


def test_each_of_several_species_has_its_own_number(tmp_path):
    values = yaml.safe_load(make_project(tmp_path, species=2).read_text())
    rows = np.random.default_rng(0).uniform(5, 30, (60, 3)).round(2).tolist()
    lines = [f"t1,{'fas' if n < 50 else 'ribosome'},{x},{y},{z}" for n, (x, y, z) in enumerate(rows)]
    (tmp_path / "many.csv").write_text("\n".join(["tomogram,species,x_voxel,y_voxel,z_voxel", *lines]) + "\n")
    for one in values["species"]:
        del one["expected"]
    values |= {"labels": {"train": [str(tmp_path / "many.csv")]}, "train": {}}
    run = resolve(configuration_from(values, "test"), with_clicks=True)
    assert {one.species[0].name: one.learning.train.steps for one in species_runs(run)} == {"ribosome": 400, "fas": 600}
    assert {one.species[0].name: one.values["train"]["steps"] for one in species_runs(run)} == {"ribosome": 400, "fas": 600}
    again = resolve(configuration_from(dict(run.values), "test"), with_clicks=True)  # as from resolved.yaml
    assert [one.learning.train.steps for one in species_runs(again)] == [400, 600]
    together = resolve(configuration_from(values | {"train": {"together": True}}, "test"), with_clicks=True)
    assert together.learning.train.steps == 600


def test_steps_that_are_given_stay(tmp_path):
    assert steps_of(tmp_path, 100, steps=30) == 30
