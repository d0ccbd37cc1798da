"""Training joins the clicks' average to the network, learns from tomograms without clicks, and estimates what nobody says."""

import json

import numpy as np
import pytest
import yaml
from cli_runner import tomostream
from small_project import make_project

import tomostream as ts
from tomostream.config import configuration_from, load_configuration
from tomostream.errors import InputError
from tomostream.pipeline.execution import run_project
from tomostream.pipeline.training import train_model
from tomostream.progress import Progress
from tomostream.stages.picks.expected_count import check_count_is_knowable
from tomostream.stages.shared.click_tables import unlabelled_names
from tomostream.stages.shared.resolved_run import resolve
from tomostream.strategies.catalogued import strategy_named

pytestmark = pytest.mark.slow


def settings_of(folder):
    return json.loads((folder / "model.json").read_text())


@pytest.fixture(scope="module")
def estimated(tmp_path_factory):
    """A run whose user says nothing of numbers: neither expected ones nor a count."""
    folder = tmp_path_factory.mktemp("estimated")
    path = make_project(folder)
    values = yaml.safe_load(path.read_text())
    del values["species"][0]["expected"]
    values["pick"] = {}
    run_project(configuration_from(values, "test"), stages=[], overwrite=False, progress=Progress())
    return folder / "project"


def test_the_number_of_particles_is_estimated_where_nobody_says(estimated):
    (numbers,) = settings_of(estimated / "model")["summary"]["expected_numbers"]
    assert 12 <= numbers[0] <= 48  # 24 are there


def test_the_scores_choose_the_count(estimated):
    found = json.loads((estimated / "evaluation.json").read_text())["pooled"]
    assert found["f1"] > 0.8
    assert 30 <= found["tp"] + found["fp"] <= 70  # 48 are there


def test_places_are_suggested_in_such_a_run_and_its_next_training_takes_them(estimated):
    done = tomostream("suggest", estimated, "--points", 2, "-o", estimated.parent / "next.csv")
    assert done.code == 0, done.err
    values = yaml.safe_load((estimated.parent / "run.yaml").read_text())
    values["labels"]["train"].append(str(estimated.parent / "next.csv"))
    assert len(resolve(configuration_from(values, "test"), with_clicks=True).clicks.train) == 7


@pytest.mark.parametrize("name", ["pn", "average", "slices2d"])
def test_a_count_that_nothing_will_tell_is_refused_before_training(tmp_path, name):
    values = yaml.safe_load(make_project(tmp_path).read_text())
    del values["species"][0]["expected"]
    values |= {"pick": {"count": "auto"}, "objective": {"name": name}}
    with pytest.raises(InputError, match=rf"the number of ribosome to pick is not set, and objective {name} does not estimate it"):
        run_project(configuration_from(values, "test"), stages=[], overwrite=False, progress=Progress())
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize(("pick", "expected"), [({"count": 3}, None), ({"threshold": 0.5}, None), ({}, 5), ({}, 0), ({}, {"t1": 5})])
def test_a_count_that_something_tells_is_not_refused(tmp_path, pick, expected):
    values = yaml.safe_load(make_project(tmp_path).read_text())
    values["species"][0]["expected"] = expected
    check_count_is_knowable(resolve(configuration_from(values | {"pick": pick, "objective": {"name": "pn"}}, "test"), with_clicks=False))


def test_no_particle_expected_is_no_pick(estimated):
    values = yaml.safe_load((estimated.parent / "run.yaml").read_text())
    values |= {"pick": {"count": "auto"}}
    values["species"][0]["expected"] = {"t1": 24, "t2": 0}
    run_project(configuration_from(values, "test"), stages=["pick"], overwrite=False, progress=Progress())
    assert len(ts.read_particles(estimated / "picks" / "t2.csv")) == 0
    assert len(ts.read_particles(estimated / "picks" / "t1.csv")) > 0


def test_tomograms_without_clicks_are_trained_on_and_the_filter_joins(estimated):
    settings = settings_of(estimated / "model")["settings"]
    assert settings["trained_on"] == ["t1", "t2"]
    assert settings["matched"]["weight"][0] > 0


def test_at_one_half_the_training_tomograms_give_about_the_expected_number(estimated):
    (numbers,) = settings_of(estimated / "model")["summary"]["expected_numbers"]
    picks = ts.pick(ts.open(estimated / "scores" / "t1.ome.zarr").array, radius=4.0, threshold=0.5)
    assert 0.6 * numbers[0] <= len(picks) <= 1.6 * numbers[0]


def test_without_weight_and_unlabelled_tomograms_it_is_the_plain_network(tmp_path):
    path = make_project(tmp_path, matched_filter={"weight": 0})
    values = yaml.safe_load(path.read_text())
    values["train"] |= {"unlabelled": 0, "steps": 10}
    train_model(configuration_from(values, "test"), out=tmp_path / "model", overwrite=False, progress=Progress())
    settings = settings_of(tmp_path / "model")["settings"]
    assert settings["matched"] is None
    assert settings["trained_on"] == ["t1"]


@pytest.mark.parametrize(("wanted", "chosen"), [(0, []), (1, ["t5"]), (3, ["t2", "t5", "t8"]), (100, [f"t{i}" for i in range(1, 10)])])
def test_unlabelled_tomograms_are_spread_evenly(tmp_path, wanted, chosen):
    configuration = load_configuration(make_project(tmp_path))
    some = configuration.model_copy(update={"train": configuration.train.model_copy(update={"unlabelled": wanted})})
    assert unlabelled_names(some.learning, strategy_named(some.objective.name), [f"t{i}" for i in range(10)], ["t0"]) == chosen


def test_objectives_that_expect_nothing_unlabelled_learn_from_clicked_tomograms_only(tmp_path):
    configuration = load_configuration(make_project(tmp_path, objective={"name": "pn"}))
    assert unlabelled_names(configuration.learning, strategy_named("pn"), ["t0", "t1"], ["t0"]) == []
    assert np.all([one.expected is not None for one in configuration.species])
