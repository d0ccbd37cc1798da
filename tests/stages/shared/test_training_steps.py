"""More clicks are learnt from in more steps, unless the configuration says how many."""

import numpy as np
import pytest
import yaml
from small_project import make_project

from tomostream.config import configuration_from
from tomostream.stages.shared.resolved_run import resolve


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


def test_steps_that_are_given_stay(tmp_path):
    assert steps_of(tmp_path, 100, steps=30) == 30
