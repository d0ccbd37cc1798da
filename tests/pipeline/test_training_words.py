"""The report tells in words what the model's record says."""

import pytest
from repository import REPOSITORY
from small_project import make_project

from tomostream.config import load_configuration
from tomostream.pipeline.training_words import training_words
from tomostream.stages.shared.resolved_run import resolve
from tomostream.strategies.model_folder import TrainingSummary, read_record, write_folder
from tomostream.strategies.unet.model import KIND, UNetSettings, settings_of

ARCHIVED = REPOSITORY / "tests" / "data" / "archives" / "v0.2" / "models" / "nnpu"


@pytest.fixture
def words(tmp_path):
    """A function that returns the sentences of a report, where the model's summary has these values."""
    run = resolve(load_configuration(make_project(tmp_path)), with_clicks=False)

    def told(**summary):
        run.project.model.mkdir(parents=True, exist_ok=True)
        settings = settings_of(read_record(ARCHIVED), UNetSettings, ARCHIVED)
        write_folder(run.project.model, KIND, (ARCHIVED / "model.safetensors").read_bytes(), settings, TrainingSummary(**summary))
        return training_words(run).sentences

    return told


def test_without_a_model_that_is_said(tmp_path):
    run = resolve(load_configuration(make_project(tmp_path)), with_clicks=False)
    assert training_words(run).sentences == ["There is no finished model in this project."]


def test_ranks_of_left_out_clicks_are_counted_against_the_expected_number(words):
    (found,) = [one for one in words(left_out_ranks=[[0.0, 4.0, 30.0]], expected_numbers=[[24]]) if "left out" in one]
    assert found.startswith("Of 3 clicks left out in turn, 2 are among the first 24 picks")
    (found,) = [one for one in words(left_out_ranks=[[0.0, 4.0, 30.0]]) if "left out" in one]
    assert "3 are among the first 31 picks" in found


def test_the_way_that_the_clicks_chose_is_told(words):
    assert "Scores are computed by the network alone, which the clicks have chosen." in words(chosen_ways=["the network alone"])


@pytest.mark.parametrize(("look_alikes", "is_told"), [([True], True), ([False], False), (None, False)])
def test_look_alikes_are_told_where_the_model_tells_them_apart(words, look_alikes, is_told):
    assert any("two kinds by their radial profiles" in one for one in words(look_alikes=look_alikes)) is is_told
